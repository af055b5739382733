import { expect, it } from 'vitest';
import { channelConfig } from './channel-config.js';

it('missing fields of a configuration get their defaults', () => {
  expect(channelConfig({}, 500)).toEqual({
    max_subscribers: 500,
    require_auth: true,
    permissions: {},
    metadata: {},
  });
});

it('given fields are kept, including falsy ones', () => {
  const given = { max_subscribers: 1, require_auth: false, permissions: { read: [] }, metadata: { a: null } };
  expect(channelConfig(given, 500)).toEqual(given);
});
