import { expect, it } from 'vitest';
import { channelConfig } from './channel-config.js';

it('what a channel leaves out has a default', () => {
  expect(channelConfig({}, 500)).toEqual({
    max_subscribers: 500,
    require_auth: true,
    permissions: {},
    metadata: {},
  });
});

it('what a channel gives is kept, the falsy too', () => {
  const given = { max_subscribers: 1, require_auth: false, permissions: { read: [] }, metadata: { a: null } };
  expect(channelConfig(given, 500)).toEqual(given);
});
