import { beforeEach, expect, test } from 'vitest';
import { fakeSubscriber } from '../../../../../tests/support/fake-subscriber.js';
import type { Channel } from '../../channels/channel.js';
import { silentLog } from '../../lib/log.js';
import type { SubscriptionTarget } from '../model/recipient-group.js';
import type { SubscriptionEntry } from '../routing/subscription-index.js';
import type { Subscription } from '../subscriptions/subscription.js';
import { ConditionLimits } from './condition-limits.js';

const ADA = fakeSubscriber({ id: 'ada' });
const BOB = fakeSubscriber({ id: 'bob' });
const SECRET = "body ~ 'the author wrote this'";

let sent: [member: string, event: string, payload: object][];
let ended: string[];
let warnings: string[];
let limits: ConditionLimits;
beforeEach(() => {
  sent = [];
  ended = [];
  warnings = [];
  const end = (id: string) => {
    const isFirst = !ended.includes(id);
    if (isFirst) ended.push(id);
    return isFirst;
  };
  limits = new ConditionLimits({
    clock: () => 0,
    personal: { remove: (_, id = '') => end(id) },
    subscriptions: { end: (id) => end(id) },
    channel: () => ({ audience: { members: () => [ADA, BOB] } }) as unknown as Channel,
    delivery: { send: (member, event, payload) => void sent.push([member.id, event, payload as object]) },
    log: { ...silentLog, warn: (fields, text) => void warnings.push(`${text} ${JSON.stringify(fields)}`) },
  });
});

function costOf(target: SubscriptionTarget, id: string, ms: number) {
  const subscription = {
    id,
    filter: { schema: 'public', table: 'notes' },
    condition: { sql: SECRET, columns: ['body'] },
  } as unknown as Subscription;
  const entry: SubscriptionEntry = { order: 0, target, subscription };
  return { payer: typeof target === 'string' ? id : 'ada', subscription: entry, ms, medianMs: 1 };
}

const endOf = (id: string) => [
  [
    'error',
    {
      code: 'CONDITION_TOO_SLOW',
      error: 'the condition takes too much time',
      subscription_id: id,
      cause: 'condition',
    },
  ],
  ['gap', { scope: 'changes', reason: 'the subscription has ended', subscription_ids: [id] }],
];

test('a personal subscription ends when its user is over budget, and only its connection receives the error', () => {
  limits.charge([costOf(ADA, 'fast', 100), costOf(ADA, 'slow', 600)]);
  expect(sent).toEqual([]);
  limits.charge([costOf(ADA, 'fast', 100), costOf(ADA, 'slow', 600)]);
  expect(ended).toEqual(['slow']);
  expect(sent).toEqual(endOf('slow').map((message) => ['ada', ...message]));
});

test('a channel’s subscription over its budget ends for all members, and is logged without its condition', () => {
  limits.charge([costOf('lobby', 'slow', 600), costOf('lobby', 'other', 600)]);
  expect(sent).toEqual([]);
  limits.charge([costOf('lobby', 'slow', 600)]);
  expect(ended).toEqual(['slow']);
  expect(sent).toEqual(
    ['ada', 'bob'].flatMap((member) => endOf('slow').map((message) => [member, ...message])),
  );
  expect(warnings).toEqual([
    'Subscription ended: its condition takes too much time in PostgreSQL {"table":"public.notes","subscription":"slow"}',
  ]);
});

test('a subscription that has ended already is not reported again', () => {
  ended = ['slow', 'own'];
  limits.charge([costOf('lobby', 'slow', 1_100), costOf(ADA, 'own', 1_100)]);
  expect(sent).toEqual([]);
  expect(warnings).toEqual([]);
});
