import { beforeEach, expect, test } from 'vitest';
import { fakeSubscriber } from '../../../../../tests/support/fake-subscriber.js';
import type { Channel } from '../../channels/channel.js';
import { UTF8_TEXT } from '../../postgres/sql/database-text.js';
import { Viewers } from '../model/viewer.js';
import { Recipients } from './recipients.js';

const LOBBY = { name: 'lobby' } as Channel;
const NONE = new Map();

let viewers: Viewers;
let recipients: Recipients;
beforeEach(() => {
  viewers = new Viewers([], []);
  const personal = { isOwner: () => false, byTable: () => NONE };
  recipients = new Recipients({ viewers, personal, subscriptions: { byTable: () => [] } });
});

const claimsOf = (claims: object) => ({
  userId: 'ann',
  limitedAs: 'ann',
  roles: ['user'],
  expiresAt: null,
  claims: { sub: 'ann', ...claims },
});
const groups = () => [...recipients.groupsOfChannel(LOBBY)];

test('the connections of a user share one recipient group, whatever times and ids their tokens have', () => {
  for (let n = 0; n < 100; n++)
    recipients.join(fakeSubscriber({ identity: claimsOf({ iat: n, exp: n + 60, jti: `${n}` }) }), LOBBY);
  expect(groups().map(({ members }) => members.size)).toEqual([100]);
});

test('a member with a new token stays in its group, unless policies can tell the difference', () => {
  const member = fakeSubscriber({ identity: claimsOf({ iat: 1, team: 'red' }) });
  const refreshed = (claims: object) => Object.assign(member, { identity: claimsOf(claims) });
  recipients.join(member, LOBBY);
  const [before] = groups();
  recipients.updateViewer(refreshed({ iat: 2, team: 'red' }));
  expect(groups()).toEqual([before]);
  expect(groups()[0]).toBe(before);
  recipients.updateViewer(refreshed({ iat: 3, team: 'blue' }));
  expect(groups().map(({ viewer }) => viewer.claims)).toEqual(['{"sub":"ann","team":"blue"}']);
});

test('members that joined before the encoding of the database was known get viewers for it', () => {
  recipients.join(fakeSubscriber({ identity: claimsOf({ name: 'José' }) }), LOBBY);
  recipients.join(fakeSubscriber({ identity: claimsOf({ name: 'Łukasz' }) }), LOBBY);
  const kept = groups()[0];
  viewers.use({ ...UTF8_TEXT, canStore: (text) => !/[^\0-\xff]/.test(text) });
  recipients.updateViewers();
  expect(groups()[0]).toBe(kept);
  expect(groups().map(({ viewer }) => viewer.claims)).toEqual([
    '{"name":"Jos\\u00e9","sub":"ann"}',
    '{"name":null,"sub":"ann"}',
  ]);
});
