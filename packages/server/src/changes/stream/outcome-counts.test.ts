import { beforeEach, expect, it } from 'vitest';
import type { SubscriptionTarget } from '../model/recipient-group.js';
import type { RoutedBatch } from '../routing/batch-router.js';
import { ChangeCounts } from '../subscriptions/change-counts.js';
import type { Subscription } from '../subscriptions/subscription.js';
import { OutcomeCounts } from './outcome-counts.js';

const OID = 7;
const CHANNEL = 'lobby';

let counts: ChangeCounts;
let subscription: Subscription;
let delivered: number;
let outcomeCounts: OutcomeCounts;

beforeEach(() => {
  counts = new ChangeCounts({ epochMs: () => 0 } as ConstructorParameters<typeof ChangeCounts>[0]);
  subscription = {
    filter: { events: ['INSERT'] },
    tableOid: OID,
    counts: counts.begin(OID),
  } as unknown as Subscription;
  delivered = 0;
  outcomeCounts = new OutcomeCounts({
    counts,
    subscriptions: {
      countDelivered: (_, changes) => {
        delivered += changes;
      },
    },
  });
});

const at = (index: number) => ({ commitLsn: 1n, index });

/** Two inserted rows: `count` of them were delivered, policies hide the rest. */
function routed(count: 0 | 1 | 2) {
  const record = { delivered: count, error: 0, policy: 2 - count, privilege: 0, unheard: 0 };
  return {
    delivered: new Map(
      count === 0 ? [] : [[subscription, new Set(Array.from({ length: count }, () => ({})))]],
    ),
    outcomes: {
      changesByTable: new Map([[OID, { INSERT: 2, UPDATE: 0, DELETE: 0 }]]),
      outcomes: new Map([[subscription, record]]),
    },
    targets: new Map<Subscription, SubscriptionTarget>([[subscription, CHANNEL]]),
  } as unknown as Pick<RoutedBatch, 'delivered' | 'outcomes' | 'targets'>;
}

const total = () => ({
  delivered,
  ofReasons: {
    delivered: subscription.counts.outcomes.delivered,
    policy: subscription.counts.outcomes.policy,
  },
  filteredOut: counts.filteredOut(subscription),
});

it('a live batch is counted at once', () => {
  outcomeCounts.countLive(routed(1), at(1), undefined);
  expect(total()).toEqual({ delivered: 1, ofReasons: { delivered: 1, policy: 1 }, filteredOut: 0 });
});

it('changes that all followers get by replay are counted there, once for all delayed members', () => {
  outcomeCounts.countLive(routed(0), at(1), () => true);
  expect(total()).toMatchObject({ delivered: 0, ofReasons: { delivered: 0, policy: 0 } });
  outcomeCounts.countReplay(routed(2), at(1), new Set([CHANNEL]));
  outcomeCounts.countReplay(routed(1), at(1), new Set([CHANNEL]));
  expect(total()).toEqual({ delivered: 2, ofReasons: { delivered: 2, policy: 0 }, filteredOut: 0 });
});

it('changes that somebody follows live are counted live alone, also when delayed members get them', () => {
  outcomeCounts.countLive(routed(1), at(1), () => false);
  outcomeCounts.countReplay(routed(2), at(1), new Set([CHANNEL]));
  expect(total()).toEqual({ delivered: 1, ofReasons: { delivered: 1, policy: 1 }, filteredOut: 0 });
});

it('the pages of returning members are not counted', () => {
  outcomeCounts.countLive(routed(0), at(1), () => false);
  outcomeCounts.countReplay(routed(2), at(1), new Set(['another']));
  expect(total()).toMatchObject({ delivered: 0, ofReasons: { delivered: 0, policy: 2 } });
});

it('the subscriptions of a table that the live stream has not decided are all counted by replay', () => {
  const undecided = { ...routed(0), outcomes: { changesByTable: new Map(), outcomes: new Map() } };
  outcomeCounts.countLive(undecided, at(1), () => true);
  outcomeCounts.countReplay(routed(0), at(1), new Set(['another']));
  expect(total()).toEqual({ delivered: 0, ofReasons: { delivered: 0, policy: 2 }, filteredOut: 0 });
});
