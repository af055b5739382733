import { expect, it } from 'vitest';
import { JsonText } from '../lib/json-text.js';
import { channelConfig } from './channel-config.js';

it('missing fields of a configuration get their defaults', () => {
  expect(channelConfig({}, 500)).toEqual({
    max_subscribers: 500,
    require_auth: true,
    permissions: {},
    metadata: new JsonText('{}'),
  });
});

it('given fields are kept, including falsy ones', () => {
  const given = {
    max_subscribers: 1,
    require_auth: false,
    permissions: { read: [] },
    metadata: new JsonText('{"a":1.0}'),
  };
  expect(channelConfig(given, 500)).toEqual(given);
});
