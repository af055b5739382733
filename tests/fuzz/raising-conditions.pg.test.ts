import { randomBytes } from 'node:crypto';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { loadParser } from '../../packages/server/src/changes/expressions/parse-expression.js';
import type { FilterEvent } from '../../packages/server/src/changes/model/change-filter.js';
import type {
  RecipientGroup,
  SubscriptionTarget,
} from '../../packages/server/src/changes/model/recipient-group.js';
import type { TableFacts } from '../../packages/server/src/changes/model/table-facts.js';
import { DEFAULT_DB_ROLE } from '../../packages/server/src/changes/model/viewer.js';
import { BatchOutcomes } from '../../packages/server/src/changes/routing/batch-outcomes.js';
import type { ChangeFrames } from '../../packages/server/src/changes/routing/change-frames.js';
import { GroupDeliveries } from '../../packages/server/src/changes/routing/group-deliveries.js';
import { MessageListBuilder } from '../../packages/server/src/changes/routing/message-list-builder.js';
import { TableRecipients } from '../../packages/server/src/changes/routing/recipients.js';
import {
  type DecodedChange,
  NO_ROW,
  TableBatch,
} from '../../packages/server/src/changes/routing/table-batch.js';
import { TableLayout } from '../../packages/server/src/changes/routing/table-layout.js';
import { TableRouter } from '../../packages/server/src/changes/routing/table-router.js';
import { UndecidedGroups } from '../../packages/server/src/changes/routing/undecided-groups.js';
import type { VisibleChange } from '../../packages/server/src/changes/routing/visible-change.js';
import type { Subscription } from '../../packages/server/src/changes/subscriptions/subscription.js';
import { ValueFormats } from '../../packages/server/src/changes/values/value-formats.js';
import type { ConditionRequest } from '../../packages/server/src/changes/visibility/authorizer.js';
import { PostgresAuthorizer } from '../../packages/server/src/changes/visibility/evaluating/postgres-authorizer.js';
import { parseCondition } from '../../packages/server/src/changes/visibility/parse-condition.js';
import { StaleFacts } from '../../packages/server/src/changes/visibility/stale-facts.js';
import type { Channel } from '../../packages/server/src/channels/channel.js';
import type { Subscriber } from '../../packages/server/src/channels/subscriber.js';
import type { Database } from '../../packages/server/src/postgres/connection/database.js';
import type { WalRelation } from '../../packages/server/src/postgres/source/change-source.js';
import { connectedDatabase } from '../support/connected-database.js';
import { createTestDatabase, sql, type TestDatabase } from '../support/postgres-database.js';
import { raisingCondition } from './raising-conditions.js';
import { Random } from './random.js';
import { FOUNDATION, makeWorld, type World } from './world.js';

/** Change these with `npm run test:fuzz -- --cases N --seed S`. A case is one row version, viewer and subscription. */
const CASES = Number(process.env.FUZZ_CASES ?? 1_500);
const SEED = Number(process.env.FUZZ_SEED ?? 20_261_201);
const CONDITIONS = 4;
const CHANNEL = 'lobby';
const KINDS = ['insert', 'update', 'delete'] as const;

/**
 * What PostgreSQL itself shows: the rows that a viewer selects, one by one, and those whose policy raises an error; and what
 * a condition is on a row: t, f or an error.
 */
const TRUTH = `
  CREATE FUNCTION sees(role text, usr text, claims text, ids int[], OUT seen int[], OUT failed int[], OUT columns text[]) LANGUAGE plpgsql AS $$
  DECLARE found int;
  BEGIN
    PERFORM set_config('role', role, true), set_config('app.current_user_id', usr, true), set_config('request.jwt.claims', claims, true);
    seen := '{}'; failed := '{}';
    columns := ARRAY(SELECT attname::text FROM pg_attribute WHERE attrelid = 'public.t'::regclass AND attnum > 0
      AND has_column_privilege(attrelid, attnum, 'SELECT'));
    FOR i IN 1 .. cardinality(ids) LOOP
      BEGIN
        EXECUTE 'SELECT id FROM public.t WHERE id = $1' INTO found USING ids[i];
        IF found IS NOT NULL THEN seen := seen || found; END IF;
      EXCEPTION WHEN OTHERS THEN failed := failed || ids[i];
      END;
    END LOOP;
  END $$;
  CREATE FUNCTION outcomes(condition text, ids int[]) RETURNS text[] LANGUAGE plpgsql AS $$
  DECLARE all_of text[] := '{}'; found bool;
  BEGIN
    FOR i IN 1 .. cardinality(ids) LOOP
      BEGIN
        EXECUTE 'SELECT ((' || condition || ') IS TRUE) FROM public.t WHERE id = $1' INTO found USING ids[i];
        all_of := all_of || CASE WHEN found THEN 'true' ELSE 'false' END;
      EXCEPTION WHEN OTHERS THEN all_of := all_of || 'error'::text;
      END;
    END LOOP;
    RETURN all_of;
  END $$;`;

let test: TestDatabase;
let database: Database;
let authorizer: PostgresAuthorizer;
let roles: string[];

beforeAll(async () => {
  await loadParser();
  test = await createTestDatabase();
  database = await connectedDatabase(test.url);
  const suffix = randomBytes(4).toString('hex');
  const [one, two] = [`raise_one_${suffix}`, `raise_two_${suffix}`];
  roles = [DEFAULT_DB_ROLE, one, two];
  await sql(
    test.url,
    `${FOUNDATION}; ${TRUTH}; CREATE ROLE ${one}; CREATE ROLE ${two}; GRANT ${one} TO ${two}`,
  );
  authorizer = new PostgresAuthorizer({ database, enableRls: true, clock: () => performance.now() });
});
afterAll(async () => {
  authorizer.stop();
  await database.stop();
  await sql(
    test.url,
    `DROP TABLE IF EXISTS t; ${roles
      .slice(1)
      .map((role) => `DROP OWNED BY ${role}; DROP ROLE ${role}`)
      .join(';')}`,
  );
  await test.drop();
});

/** A world with changes of its rows, two to each, and with subscriptions of a channel and of single viewers. */
interface Case extends World {
  readonly changes: readonly (typeof KINDS)[number][];
  readonly subscriptions: readonly {
    readonly id: string;
    readonly viewer: number | undefined;
    readonly condition: number;
    readonly events: readonly FilterEvent[];
  }[];
}

function makeCase(random: Random): Case {
  const world = makeWorld(random, roles);
  return {
    ...world,
    conditions: Array.from({ length: CONDITIONS }, () => raisingCondition(random, 2)),
    changes: Array.from({ length: world.rows.length / 2 }, () => random.of(KINDS)),
    subscriptions: Array.from({ length: 6 }, (_, n) => ({
      id: `s${n}`,
      viewer: random.chance(0.5) ? random.below(world.viewers.length) : undefined,
      condition: random.below(CONDITIONS),
      events: random.of<readonly FilterEvent[]>([
        ['INSERT', 'UPDATE', 'DELETE'],
        ['UPDATE'],
        ['INSERT', 'DELETE'],
      ]),
    })),
  };
}

/** What one viewer gets. */
interface Received {
  readonly messages: readonly string[];
  /** The subscriptions of which it is told that they failed. */
  readonly failed: readonly string[];
}

/** Routes the changes of a case. Also returns on which rows PostgreSQL evaluated which condition. */
async function route(world: Case, facts: TableFacts): Promise<{ received: Received[]; evaluated: string[] }> {
  const owners = world.viewers.map(
    (_, n) => ({ id: `c${n}`, identity: { limitedAs: `u${n}` } }) as Subscriber,
  );
  const groups = world.viewers.map((viewer, n): RecipientGroup => {
    const isOwner = world.subscriptions.some((subscription) => subscription.viewer === n);
    return {
      key: String(n),
      channel: { name: CHANNEL } as Channel,
      viewer: { key: JSON.stringify([n, viewer]), ...viewer, settings: [] },
      owner: isOwner ? owners[n] : undefined,
      members: new Set(owners.slice(n, n + 1)),
    };
  });
  const recipients = new TableRecipients();
  for (const group of groups) recipients.add(group);
  const conditions = world.conditions.map((text) => parseCondition(text, facts.columns));
  const subscriptions = world.subscriptions.map(({ id, viewer, condition, events }) => ({
    target: ((viewer === undefined ? undefined : owners[viewer]) ?? CHANNEL) as SubscriptionTarget,
    subscription: {
      id,
      channelName: CHANNEL,
      active: true,
      filter: { events },
      condition: conditions[condition],
    } as unknown as Subscription,
  }));
  const of = (target: SubscriptionTarget) =>
    subscriptions.filter((own) => own.target === target).map(({ subscription }) => subscription);
  const evaluated: string[] = [];
  const recording = new Proxy(authorizer, {
    get: (real, name) => {
      if (name === 'evaluateConditions')
        return (table: TableFacts, rows: World['rows'], requests: readonly ConditionRequest[]) => {
          for (const { condition, rows: own } of requests)
            evaluated.push(...own.map((row) => `${condition.sql} on ${rows[row]?.[0]}`));
          return real.evaluateConditions(table, rows, requests);
        };
      const value: unknown = Reflect.get(real, name, real);
      return typeof value === 'function' ? value.bind(real) : value;
    },
  });
  const router = new TableRouter({
    authorizer: recording,
    personal: { byTable: () => new Map(owners.map((owner) => [owner, of(owner)])), version: 1 },
    subscriptions: { byTable: () => of(CHANNEL) },
    counters: { rowsEvaluated: 0, changesFiltered: 0, changeErrors: 0 },
  });
  const relation = { columns: facts.columns.filter(({ generated }) => generated === null) };
  const layout = new TableLayout(
    relation as unknown as WalRelation,
    facts,
    new ValueFormats({ query: async () => [] }),
  );
  const batch = new TableBatch(layout);
  batch.rows.push(...world.rows);
  for (const [n, kind] of world.changes.entries()) {
    const oldRow = kind === 'insert' ? NO_ROW : 2 * n;
    const newRow = kind === 'delete' ? NO_ROW : 2 * n + 1;
    batch.changes.push({ streamed: { kind }, batchIndex: n, oldRow, newRow } as unknown as DecodedChange);
  }
  const frames = {
    frame: ({ batchIndex }: DecodedChange, { subscriptions: own, showsOld, showsNew }: VisibleChange) =>
      Buffer.from(JSON.stringify([batchIndex, showsOld, showsNew, own.map(({ id }) => id).sort()])),
    isGap: () => false,
  };
  const lists = new MessageListBuilder(frames as unknown as ChangeFrames, new Map(), () => undefined);
  const deliveries = new GroupDeliveries();
  await router.route(
    batch,
    recipients,
    { lists, xids: [], deadline: undefined },
    { deliveries, outcomes: new BatchOutcomes(), undecided: new UndecidedGroups(), costs: [] },
  );
  lists.finish(deliveries);
  const received = groups.map((group): Received => {
    const { lists: own, failed } = deliveries.of(group);
    return {
      messages: own.flatMap((list) => list.map(({ frame }) => frame.toString())),
      failed: [...failed.keys()].map(({ id }) => id).sort(),
    };
  });
  return { received, evaluated: evaluated.sort() };
}

interface Truth {
  /** By viewer. */
  readonly sees: readonly {
    readonly seen: readonly number[];
    readonly failed: readonly number[];
    readonly columns: readonly string[];
  }[];
  /** By condition and row. */
  readonly outcomes: readonly (readonly string[])[];
}

async function truthOf(world: Case): Promise<Truth> {
  const ids = world.rows.map(([id]) => Number(id));
  return database.transaction(async (statements) => {
    for (const [id, a, b, c, u] of world.rows)
      await statements.query('INSERT INTO public.t (id, a, b, c, u) VALUES ($1, $2, $3, $4, $5)', [
        id,
        a,
        b,
        c,
        u,
      ]);
    const sees: Truth['sees'][number][] = [];
    for (const { role, userId, claims } of world.viewers) {
      await statements.query('SAVEPOINT context');
      sees.push(
        ...(await statements.query<Truth['sees'][number]>('SELECT * FROM public.sees($1, $2, $3, $4)', [
          role,
          userId,
          claims,
          ids,
        ])),
      );
      await statements.query('ROLLBACK TO context');
    }
    const outcomes: string[][] = [];
    for (const condition of world.conditions) {
      const [row] = await statements.query<{ found: string[] }>('SELECT public.outcomes($1, $2) AS found', [
        condition,
        ids,
      ]);
      outcomes.push(row?.found ?? []);
    }
    await statements.query('TRUNCATE public.t');
    return { sees, outcomes };
  });
}

/** Returns what each viewer must get, and what may be evaluated, by what PostgreSQL shows. */
async function expectedOf(world: Case, { sees, outcomes }: Truth, facts: TableFacts) {
  const conditions = world.conditions.map((text) => parseCondition(text, facts.columns));
  const isOpen: boolean[] = [];
  for (const condition of conditions)
    isOpen.push(!('compiled' in (await authorizer.compileCondition(facts, condition))));
  const evaluated = new Set<string>();
  const received = sees.map(({ seen, columns }, viewer): Received => {
    const failed = new Set<string>();
    const messages = world.changes.flatMap((kind, n) => {
      const own = world.subscriptions.filter(
        ({ viewer: owner, events, condition }) =>
          (owner === undefined || owner === viewer) &&
          events.some((event) => event === kind.toUpperCase()) &&
          conditions[condition]?.columns.every((name) => columns.includes(name)) === true,
      );
      const matching = (row: number) => {
        if (!seen.includes(row)) return [];
        return own.filter(({ id, condition }) => {
          if (isOpen[condition] === true) evaluated.add(`${conditions[condition]?.sql} on ${row}`);
          const outcome = outcomes[condition]?.[row];
          if (outcome === 'error') failed.add(id);
          return outcome === 'true';
        });
      };
      const old = kind === 'insert' ? [] : matching(2 * n);
      const now = kind === 'delete' ? [] : matching(2 * n + 1);
      if (old.length + now.length === 0) return [];
      const ids = [...new Set([...old, ...now].map(({ id }) => id))].sort();
      return [JSON.stringify([n, old.length > 0, now.length > 0, ids])];
    });
    return { messages, failed: [...failed].sort() };
  });
  return { received, evaluated: [...evaluated].sort() };
}

async function retryWhenStale<T>(evaluate: () => Promise<T>): Promise<T> {
  for (;;) {
    try {
      return await evaluate();
    } catch (error) {
      // Other tests create roles, which all databases share.
      if (!(error instanceof StaleFacts)) throw error;
    }
  }
}

it(
  `the errors of conditions reach those alone who see where they occur, in ${CASES} cases of seed ${SEED}`,
  async () => {
    const counts = { cases: 0, evaluated: 0, messages: 0, failed: 0 };
    for (let seed = SEED; counts.cases < CASES; seed++) {
      const world = makeCase(new Random(seed));
      await sql(test.url, world.statements);
      const [row] = await sql<{ oid: number }>(test.url, `SELECT 't'::regclass::oid::int AS oid`);
      const truth = await truthOf(world);
      const { actual, expected } = await retryWhenStale(async () => {
        const facts = await authorizer.facts(row?.oid ?? 0);
        if (facts === undefined) throw new Error('no table');
        return { actual: await route(world, facts), expected: await expectedOf(world, truth, facts) };
      });
      // A viewer whose own policies fail is told of that, too.
      const received = actual.received.map((own, n) =>
        truth.sees[n]?.failed.length === 0
          ? own
          : { ...own, failed: own.failed.filter((id) => expected.received[n]?.failed.includes(id)) },
      );
      const about = { seed, ...world };
      expect({ about, received, evaluated: actual.evaluated }).toEqual({ about, ...expected });
      counts.cases += world.rows.length * world.viewers.length * world.subscriptions.length;
      counts.evaluated += expected.evaluated.length;
      counts.messages += expected.received.flatMap(({ messages }) => messages).length;
      counts.failed += expected.received.flatMap(({ failed }) => failed).length;
    }
    console.info(`raising conditions: ${JSON.stringify(counts)}, 0 differences, seed ${SEED}`);
    expect(counts.failed).toBeGreaterThan(counts.cases / 1_000);
  },
  Math.max(120_000, CASES * 20),
);
