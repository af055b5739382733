import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import type { Channel } from '../../channels/channel.js';
import type { Subscriber } from '../../channels/subscriber.js';
import type { WalRelation } from '../../postgres/source/change-source.js';
import type { FilterEvent } from '../model/change-filter.js';
import type { RecipientGroup, SubscriptionTarget } from '../model/recipient-group.js';
import type { RowImage } from '../model/row-image.js';
import type { TableFacts } from '../model/table-facts.js';
import type { ConditionCost } from '../subscriptions/condition-budget.js';
import type { Subscription } from '../subscriptions/subscription.js';
import { ValueFormats } from '../values/value-formats.js';
import {
  type Authorizer,
  type ConditionRequest,
  type EvaluationRequest,
  TOO_SLOW,
} from '../visibility/authorizer.js';
import type { RolePrivileges } from '../visibility/role-privileges.js';
import { BatchOutcomes } from './batch-outcomes.js';
import type { ChangeFrames } from './change-frames.js';
import { GroupDeliveries } from './group-deliveries.js';
import { MessageListBuilder } from './message-list-builder.js';
import { TableRecipients } from './recipients.js';
import type { SubscriptionEntry } from './subscription-index.js';
import { type DecodedChange, NO_ROW, TableBatch } from './table-batch.js';
import { TableLayout } from './table-layout.js';
import { TableRouter } from './table-router.js';
import { UndecidedGroups } from './undecided-groups.js';
import type { VisibleChange } from './visible-change.js';

const COLUMNS = ['id', 'salary'];
const FACTS = {
  oid: 1,
  schema: 'public',
  name: 'staff',
  kind: 'table',
  columns: COLUMNS.map((name, n) => ({
    name,
    number: n + 1,
    typeOid: 23,
    type: 'int',
    generated: null,
    family: null,
  })),
  primaryKey: ['id'],
  identity: 'f',
  identityColumns: COLUMNS,
} as TableFacts;
const RELATION = { columns: COLUMNS.map((name) => ({ name, typeOid: 23 })) } as unknown as WalRelation;

/** Users of three roles: row level security applies to all but `admin`, and `clerk` may not read the salary. */
const ROLES = ['user', 'clerk', 'admin'] as const;
const EVENTS: readonly FilterEvent[] = ['INSERT', 'UPDATE', 'DELETE'];
const KINDS = ['insert', 'update', 'delete'] as const;
/** `slow`: the condition takes too long, and fails on all rows that it is evaluated on together. */
type Truth = 'true' | 'false' | 'error' | 'slow';

/** Every change has a row for its old version, and one for its new, of which an INSERT and a DELETE use one. */
interface World {
  readonly changes: readonly (typeof KINDS)[number][];
  /** By user, by row. */
  readonly sees: readonly (readonly boolean[])[];
  /** By condition, by row. The condition with an odd number reads the salary. */
  readonly truths: readonly (readonly Truth[])[];
  /** `user`: of the user itself; missing: of the channel. `condition`: missing for a subscription to all rows. */
  readonly subscriptions: readonly {
    readonly user: number | undefined;
    readonly condition: number | undefined;
    readonly events: readonly FilterEvent[];
  }[];
}

const USERS = 4;
const roleOf = (user: number) => ROLES[user % ROLES.length] ?? 'user';
const readable = (user: number) => (roleOf(user) === 'clerk' ? ['id'] : COLUMNS);
const columnOf = (condition: number) => (condition % 2 === 1 ? 'salary' : 'id');
const rowsOf = ({ changes }: World) =>
  changes.flatMap((kind, n) => [
    ...(kind === 'insert' ? [] : [2 * n]),
    ...(kind === 'delete' ? [] : [2 * n + 1]),
  ]);

const anyWorld: fc.Arbitrary<World> = fc.integer({ min: 1, max: 4 }).chain((count) => {
  const rows = { minLength: 2 * count, maxLength: 2 * count };
  return fc.record({
    changes: fc.array(fc.constantFrom(...KINDS), { minLength: count, maxLength: count }),
    sees: fc.array(fc.array(fc.boolean(), rows), { minLength: USERS, maxLength: USERS }),
    truths: fc.array(fc.array(fc.constantFrom<Truth>('true', 'false', 'error'), rows), {
      minLength: 4,
      maxLength: 4,
    }),
    subscriptions: fc.array(
      fc.record({
        user: fc.option(fc.nat(USERS - 1), { nil: undefined }),
        condition: fc.option(fc.nat(3), { nil: undefined, freq: 8 }),
        events: fc.subarray([...EVENTS], { minLength: 1 }),
      }),
      { minLength: 1, maxLength: 6 },
    ),
  });
});

/** What a user receives: messages, and errors by subscription. */
interface Received {
  readonly messages: readonly string[];
  readonly failed: readonly string[];
}

/** Who and what PostgreSQL does not decide before a deadline. */
interface Slow {
  readonly users: readonly boolean[];
  readonly conditions: readonly boolean[];
}

const NOTHING: Slow = { users: [], conditions: [] };
const UNDECIDED = { visible: new Set<number>(), failed: new Set<number>(), undecided: 'slow' } as const;

/** Records what PostgreSQL evaluates, and knows the answers of a world. */
class RecordingAuthorizer {
  readonly #world: World;
  readonly #slow: Slow;
  readonly calls: { readonly sql: string; readonly rows: readonly string[] }[][] = [];

  constructor(world: World, slow: Slow) {
    this.#world = world;
    this.#slow = slow;
  }

  async compileCondition() {
    return { reason: 'it divides' };
  }

  async privileges(_: TableFacts, role: string): Promise<RolePrivileges> {
    return {
      canSelect: true,
      columns: new Set(role === 'clerk' ? ['id'] : COLUMNS),
      rows: role === 'admin' ? 'all' : 'filtered',
      reads: new Set(['id']),
      policies: [],
      policyCompilation: { reason: 'it divides' },
    };
  }

  async evaluatePolicies(_: TableFacts, __: readonly RowImage[], requests: readonly EvaluationRequest[]) {
    return requests.map(({ viewer, rows }) => {
      if (this.#slow.users[Number(viewer.key)] === true) return UNDECIDED;
      const visible = new Set(rows.filter((row) => this.#world.sees[Number(viewer.key)]?.[row]));
      return { visible, failed: new Set<number>() };
    });
  }

  async evaluateConditions(_: TableFacts, rows: readonly RowImage[], requests: readonly ConditionRequest[]) {
    const idOf = (row: number) => String(rows[row]?.[0]);
    this.calls.push(requests.map(({ condition: { sql }, rows: own }) => ({ sql, rows: own.map(idOf) })));
    return requests.map(({ condition: { sql }, rows: own }) => {
      if (this.#slow.conditions[Number(sql)] === true) return { ...UNDECIDED, tookMs: 0, medianMs: 1 };
      const of = (truth: Truth) =>
        new Set(own.filter((row) => this.#world.truths[Number(sql)]?.[Number(idOf(row))] === truth));
      const cost = { tookMs: 12, medianMs: 1 };
      if (of('slow').size > 0) return { visible: new Set(), failed: new Set(own), error: TOO_SLOW, ...cost };
      return { visible: of('true'), failed: of('error'), ...cost };
    });
  }
}

function subscriptionsOf({ subscriptions }: World, owners: readonly Subscriber[]) {
  return subscriptions.map(({ user, condition, events }, n): [SubscriptionTarget, Subscription] => {
    const subscription = {
      id: `s${n}`,
      channelName: 'lobby',
      active: true,
      filter: { events },
      condition: condition === undefined ? null : { sql: String(condition), columns: [columnOf(condition)] },
    } as unknown as Subscription;
    return [(user === undefined ? undefined : owners[user]) ?? 'lobby', subscription];
  });
}

async function route(world: World, slow = NOTHING) {
  const owners = Array.from(
    { length: USERS },
    (_, n) => ({ id: `c${n}`, identity: { limitedAs: `u${n}` } }) as Subscriber,
  );
  const channel = { name: 'lobby' } as Channel;
  const groups = owners.map((owner, n): RecipientGroup => {
    const viewer = { key: String(n), role: roleOf(n), userId: String(n), claims: '{}', settings: [] };
    const isOwner = world.subscriptions.some(({ user }) => user === n);
    return { key: String(n), channel, viewer, owner: isOwner ? owner : undefined, members: new Set([owner]) };
  });
  const recipients = new TableRecipients();
  for (const group of groups) recipients.add(group);
  const all = subscriptionsOf(world, owners);
  const ownedBy = (owner: Subscriber) => all.filter(([target]) => target === owner).map(([, own]) => own);
  const authorizer = new RecordingAuthorizer(world, slow);
  const counters = { rowsEvaluated: 0, changesFiltered: 0, changeErrors: 0 };
  const router = new TableRouter({
    authorizer: authorizer as unknown as Authorizer,
    personal: { byTable: () => new Map(owners.map((owner) => [owner, ownedBy(owner)])), version: 1 },
    subscriptions: {
      byTable: () => all.filter(([target]) => target === 'lobby').map(([, shared]) => shared),
    },
    counters,
  });
  const batch = new TableBatch(new TableLayout(RELATION, FACTS, new ValueFormats({ query: async () => [] })));
  for (const [n, kind] of world.changes.entries()) {
    batch.rows.push([String(2 * n), '1'], [String(2 * n + 1), '1']);
    const oldRow = kind === 'insert' ? NO_ROW : 2 * n;
    const newRow = kind === 'delete' ? NO_ROW : 2 * n + 1;
    batch.changes.push({ streamed: { kind }, batchIndex: n, oldRow, newRow } as unknown as DecodedChange);
  }
  const frames = {
    isGap: () => false,
    frame: ({ batchIndex }: DecodedChange, { subscriptions, ...shown }: VisibleChange) =>
      Buffer.from(JSON.stringify([batchIndex, shown, subscriptions.map(({ id }) => id).sort()])),
  };
  const delivered = new Map();
  const lists = new MessageListBuilder(frames as unknown as ChangeFrames, delivered, () => undefined);
  const deliveries = new GroupDeliveries();
  const outcomes = new BatchOutcomes();
  const undecided = new UndecidedGroups();
  const costs: ConditionCost<SubscriptionEntry>[] = [];
  await router.route(
    batch,
    recipients,
    { lists, xids: [], deadline: undefined },
    { deliveries, outcomes, undecided, costs },
  );
  lists.finish(deliveries);
  const received = groups.map((group): Received => {
    const { lists: own, failed } = deliveries.of(group);
    return {
      messages: own.flatMap((list) => list.map(({ frame }) => frame.toString())),
      failed: [...failed.keys()].map(({ id }) => id).sort(),
    };
  });
  const isUndecided = groups.map((group) => undecided.has(group));
  return {
    received,
    isUndecided,
    calls: authorizer.calls,
    counters,
    outcomes: outcomes.finish(delivered),
    costs,
  };
}

const isSeen = ({ sees }: World, user: number, row: number) =>
  roleOf(user) === 'admin' || sees[user]?.[row] === true;

/** The subscriptions of a user whose condition its role may read, with those of the channel. */
function followed({ subscriptions }: World, user: number) {
  return subscriptions
    .map((subscription, n) => ({ ...subscription, id: `s${n}` }))
    .filter((subscription) => subscription.user === undefined || subscription.user === user)
    .filter(({ condition }) => condition === undefined || readable(user).includes(columnOf(condition)));
}

/** What a user must receive, by the rules alone. */
function expectedOf(world: World, user: number): Received {
  const failed = new Set<string>();
  const messages = world.changes.flatMap((kind, n) => {
    const event = kind.toUpperCase() as FilterEvent;
    const own = followed(world, user).filter(({ events }) => events.includes(event));
    const matching = (row: number) => {
      if (!isSeen(world, user, row)) return [];
      return own.filter(({ condition, id }) => {
        const truth = condition === undefined ? 'true' : world.truths[condition]?.[row];
        if (truth === 'error') failed.add(id);
        return truth === 'true';
      });
    };
    const old = kind === 'insert' ? [] : matching(2 * n);
    const now = kind === 'delete' ? [] : matching(2 * n + 1);
    if (old.length + now.length === 0) return [];
    const shown = {
      showsOld: old.length > 0,
      showsNew: now.length > 0,
      ...(kind !== 'update' || (old.length > 0 && now.length > 0)
        ? {}
        : { visibility: now.length > 0 ? 'gained' : 'lost' }),
    };
    return [JSON.stringify([n, shown, [...new Set([...old, ...now].map(({ id }) => id))].sort()])];
  });
  return { messages, failed: [...failed].sort() };
}

/** What may be evaluated: the rows that somebody sees who has the condition. */
function evaluable(world: World): string[] {
  const pairs = rowsOf(world).flatMap((row) => {
    const event = world.changes[row >> 1]?.toUpperCase() as FilterEvent;
    return Array.from({ length: USERS }, (_, user) => user)
      .filter((user) => isSeen(world, user, row))
      .flatMap((user) => followed(world, user).filter(({ events }) => events.includes(event)))
      .flatMap(({ condition }) => (condition === undefined ? [] : [`${condition} on ${row}`]));
  });
  return [...new Set(pairs)].sort();
}

describe('the conditions that PostgreSQL evaluates', () => {
  it('decide what each user receives, with the errors of rows that it sees and of no other', async () => {
    await fc.assert(
      fc.asyncProperty(anyWorld, async (world) => {
        const { received } = await route(world);
        expect(received).toEqual(received.map((_, user) => expectedOf(world, user)));
      }),
      { numRuns: 100 },
    );
  });

  it('are evaluated once on each row that somebody with the condition sees, in one call, and on no other', async () => {
    await fc.assert(
      fc.asyncProperty(anyWorld, async (world) => {
        const { calls } = await route(world);
        const evaluated = calls.flat().flatMap(({ sql, rows }) => rows.map((row) => `${sql} on ${row}`));
        expect(evaluated.sort()).toEqual(evaluable(world));
        expect(calls.length).toBeLessThanOrEqual(1);
      }),
      { numRuns: 100 },
    );
  });

  it('make the same calls and messages for a user, whatever they are on rows that the user does not see', async () => {
    await fc.assert(
      fc.asyncProperty(anyWorld, fc.nat(USERS - 1), anyWorld, async (world, user, other) => {
        const hidden = (row: number) => !isSeen(world, user, row);
        const truths = world.truths.map((own, n) =>
          own.map((truth, row) => (hidden(row) ? (other.truths[n]?.[row] ?? 'error') : truth)),
        );
        const before = await route(world);
        const after = await route({ ...world, truths });
        expect(after.calls).toEqual(before.calls);
        expect(after.received[user]).toEqual(before.received[user]);
      }),
    );
  });

  it('that are too slow on a row make no difference to users who do not see that row', async () => {
    await fc.assert(
      fc.asyncProperty(
        anyWorld,
        fc.nat(USERS - 1),
        fc.infiniteStream(fc.boolean()),
        async (world, user, isSlow) => {
          const truths = world.truths.map((own) =>
            own.map(
              (truth, row): Truth => (!isSeen(world, user, row) && isSlow.next().value ? 'slow' : truth),
            ),
          );
          const before = await route(world);
          const after = await route({ ...world, truths });
          expect(after.received[user]).toEqual(before.received[user]);
        },
      ),
      { numRuns: 100 },
    );
  });

  it('that are too slow are reported as failed to all users who see the row', async () => {
    const world: World = {
      changes: ['insert', 'insert'],
      sees: [[false, true, false, true], [], [], [false, true, false, false]],
      truths: [['false', 'true', 'false', 'slow'], [], [], []],
      subscriptions: [{ user: undefined, condition: 0, events: EVENTS }],
    };
    const { received, calls } = await route(world);
    expect(received.map(({ failed }) => failed)).toEqual([['s0'], [], ['s0'], []]);
    expect(received.map(({ messages }) => messages.length)).toEqual([1, 0, 1, 1]);
    expect(calls.map((call) => call.map(({ rows }) => rows))).toEqual([[['1', '3']], [['1'], ['3']]]);
  });

  it('count a change as held back by policies where nobody sees it, and as an error only where it is seen', async () => {
    const world: World = {
      changes: ['insert', 'insert', 'insert', 'insert'],
      sees: [[false, false, false, true, false, true, false, true], [], [], []],
      truths: [['false', 'error', 'false', 'error', 'false', 'false', 'false', 'true'], [], [], []],
      subscriptions: [{ user: 0, condition: 0, events: ['INSERT'] }],
    };
    const { outcomes, counters } = await route(world);
    expect([...outcomes.outcomes.values()]).toEqual([
      { delivered: 1, error: 1, policy: 1, privilege: 0, unheard: 0 },
    ]);
    expect(counters.changeErrors).toBe(1);
  });

  it('are charged in equal parts to the users who see a row on which they ran, and to a channel’s subscription', async () => {
    const all = EVENTS;
    const world: World = {
      changes: ['insert', 'insert'],
      sees: [[true, true, true, true], [], [], [false, true, false, false]],
      truths: [[], [], [], []],
      subscriptions: [
        { user: 0, condition: 0, events: all },
        { user: 0, condition: 0, events: all },
        { user: 1, condition: 0, events: all },
        { user: 3, condition: 0, events: all },
        { user: undefined, condition: 0, events: all },
        { user: 0, condition: 2, events: ['DELETE'] },
      ],
    };
    const { costs } = await route(world);
    expect(
      costs.map(({ payer, subscription: { subscription }, ms }) => [payer, subscription.id, ms]),
    ).toEqual([
      ['subscription s4', 's4', 4],
      ['user u0', 's0', 2],
      ['user u0', 's1', 2],
      ['user u3', 's3', 4],
    ]);
  });
});

it('a user gets exactly its changes, or none of them because its policy or a condition that it has on a row that it sees is slow', async () => {
  const anySlow = fc.record({
    users: fc.array(fc.boolean(), { minLength: USERS, maxLength: USERS }),
    conditions: fc.array(fc.boolean(), { minLength: 4, maxLength: 4 }),
  });
  await fc.assert(
    fc.asyncProperty(anyWorld, anySlow, async (world, slow) => {
      const { received, isUndecided } = await route(world, slow);
      for (let user = 0; user < USERS; user++) {
        const hasSlowCondition = followed(world, user).some(
          ({ condition }) => condition !== undefined && slow.conditions[condition] === true,
        );
        const seesRows = rowsOf(world).some((row) => isSeen(world, user, row));
        const mayWait =
          (slow.users[user] === true && roleOf(user) !== 'admin') || (hasSlowCondition && seesRows);
        if (isUndecided[user] === true) expect(mayWait).toBe(true);
        else expect(received[user]).toEqual(expectedOf(world, user));
      }
    }),
    { numRuns: 100 },
  );
});
