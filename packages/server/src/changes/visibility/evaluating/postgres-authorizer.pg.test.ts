import { afterAll, beforeAll, beforeEach, describe, expect, it, vi } from 'vitest';
import { connectedDatabase } from '../../../../../../tests/support/connected-database.js';
import { eventually } from '../../../../../../tests/support/eventually.js';
import { postgresVersions } from '../../../../../../tests/support/matrix.js';
import {
  createTestDatabase,
  sql,
  type TestDatabase,
} from '../../../../../../tests/support/postgres-database.js';
import type { Database } from '../../../postgres/connection/database.js';
import { SqlSession } from '../../../postgres/connection/sql-session.js';
import { DEFAULT_DB_ROLE, type Viewer } from '../../model/viewer.js';
import type { Undecided, ViewerParameters } from '../authorizer.js';
import { StaleFacts } from '../stale-facts.js';
import { PostgresAuthorizer } from './postgres-authorizer.js';

const ADA = '11111111-1111-4111-8111-111111111111';
const BOB = '22222222-2222-4222-8222-222222222222';

const VERSIONS = postgresVersions('oldest');

function parametersOf(found: ViewerParameters | Undecided | undefined) {
  return typeof found === 'object' ? found.parameters : undefined;
}

describe.each(VERSIONS)('the authorizer on the %s PostgreSQL', (version) => {
  let test: TestDatabase;
  let database: Database;
  let authorizer: PostgresAuthorizer;
  let now: number;

  beforeAll(async () => {
    test = await createTestDatabase(version);
    database = await connectedDatabase(test.url);
  });

  beforeEach(() => {
    now = 0;
    authorizer = new PostgresAuthorizer({ database, enableRls: true, clock: () => now });
    return () => authorizer.stop();
  });

  afterAll(async () => {
    await database.stop();
    await test.drop();
  });

  let tables = 0;

  /**
   * Creates a table with these columns that the default role can read; runs `statements`, of its name, after
   * that.
   */
  async function table(columns: string, statements: (name: string) => string = () => '') {
    const name = `t${tables++}`;
    await sql(
      test.url,
      `CREATE TABLE ${name} (${columns}); GRANT SELECT ON ${name} TO ${DEFAULT_DB_ROLE}; ${statements(name)}`,
    );
    const [row] = await sql<{ oid: number }>(test.url, `SELECT '${name}'::regclass::oid::int AS oid`);
    const oid = row?.oid ?? 0;
    return { name, oid, facts: () => factsOf(oid) };
  }

  async function factsOf(oid: number) {
    const facts = await authorizer.facts(oid);
    if (facts === undefined) throw new Error('no such table');
    return facts;
  }

  function viewer(userId: string, claims: object = {}, role = DEFAULT_DB_ROLE): Viewer {
    const json = JSON.stringify(claims);
    return { key: `${role} ${userId} ${json}`, role, userId, claims: json, settings: [] };
  }

  /**
   * Retries when the catalog has changed: roles belong to the whole PostgreSQL, and other tests create some.
   */
  async function steadily<T>(ask: () => Promise<T>): Promise<T> {
    for (;;) {
      try {
        return await ask();
      } catch (error) {
        if (!(error instanceof StaleFacts)) throw error;
      }
    }
  }

  async function seen(oid: number, rows: (string | null)[][], users: Viewer[]) {
    const verdicts = await steadily(async () =>
      authorizer.evaluatePolicies(
        await factsOf(oid),
        rows,
        users.map((user) => ({ viewer: user, rows: rows.map((_, n) => n) })),
        [],
      ),
    );
    return verdicts.map(({ visible, failed }) => [[...visible], [...failed]]);
  }

  const OWN = (name: string) => `ALTER TABLE ${name} ENABLE ROW LEVEL SECURITY;
    CREATE POLICY own ON ${name} FOR SELECT USING (user_id = current_setting('app.current_user_id')::uuid)`;

  describe('verifying facts', () => {
    /** Calls `verify` until it no longer throws because of roles that other tests create; returns its statements. */
    async function statements(oid: number, xids: readonly number[] = [], mustAsk = false): Promise<number> {
      const query = vi.spyOn(database, 'query');
      try {
        return await steadily(async () => {
          const facts = await factsOf(oid);
          query.mockClear();
          await authorizer.verify([facts], xids, mustAsk);
          return query.mock.calls.length;
        });
      } finally {
        query.mockRestore();
      }
    }

    /** Begins a transaction that has written something. */
    async function running(): Promise<{ readonly xid: number; readonly session: SqlSession }> {
      const session = await database.pool('replays').openSession('test');
      await session.query('BEGIN');
      const [row] = await session.query<{ xid: number }>('SELECT pg_current_xact_id()::text::float8 AS xid');
      return { xid: row?.xid ?? 0, session };
    }

    it('takes no statement once the transactions that were running when they were read are seen', async () => {
      const { oid } = await table('id int');
      const { session } = await running();
      try {
        expect(await statements(oid)).toBe(1);
        expect(await statements(oid)).toBe(1);
        await session.query('COMMIT');
        // Other tests have transactions in the same PostgreSQL.
        await eventually(async () => expect(await statements(oid)).toBe(0));
        expect(await statements(oid, [], true)).toBe(1);
      } finally {
        session.close();
      }
    });

    it('takes a statement for a transaction that may have changed the catalog, and waits until it is seen', async () => {
      const { oid, name } = await table('id int');
      await statements(oid);
      const { xid, session } = await running();
      try {
        await session.query(`REVOKE SELECT ON ${name} FROM ${DEFAULT_DB_ROLE}`);
        const facts = await factsOf(oid);
        await expect(authorizer.verify([facts], [xid], false)).rejects.toThrow(StaleFacts);
        expect(await factsOf(oid)).toBe(facts);
        await session.query('COMMIT');
        await expect(authorizer.verify([facts], [xid], false)).rejects.toThrow(StaleFacts);
        await eventually(async () => expect(await statements(oid, [xid])).toBe(0));
        expect(
          await steadily(async () => authorizer.privileges(await factsOf(oid), DEFAULT_DB_ROLE)),
        ).toMatchObject({
          canSelect: false,
        });
      } finally {
        session.close();
      }
    });

    it('takes a statement for each batch of a partitioned table, whose policies the stream does not tell of', async () => {
      const { name } = await table('id int');
      await sql(test.url, `CREATE TABLE ${name}_p (id int) PARTITION BY RANGE (id)`);
      const [row] = await sql<{ oid: number }>(test.url, `SELECT '${name}_p'::regclass::oid::int AS oid`);
      const oid = row?.oid ?? 0;
      await statements(oid);
      expect(await statements(oid)).toBe(1);
    });
  });

  it('keeps a compiled condition for the next subscription, but no more than a thousand of a table', async () => {
    const { facts } = await table('id int');
    const known = await facts();
    const compile = (n: number) => authorizer.compileCondition(known, { sql: `id = ${n}`, columns: ['id'] });
    const first = compile(0);
    expect(compile(0)).toBe(first);
    for (let n = 1; n < 1_000; n++) await compile(n);
    expect(compile(0)).toBe(first);
    await compile(1_000);
    expect(compile(0)).not.toBe(first);
  });

  it('lets each viewer see its own rows, and returns the rows on which the policy raised an error', async () => {
    const { oid, facts } = await table('id int PRIMARY KEY, user_id uuid', OWN);
    const privileges = await authorizer.privileges(await facts(), DEFAULT_DB_ROLE);
    expect(privileges).toMatchObject({ canSelect: true, rows: 'filtered', reads: new Set(['user_id']) });
    const rows = [
      ['1', ADA],
      ['2', BOB],
      ['3', null],
      ['4', ADA],
    ];
    expect(await seen(oid, rows, [viewer(ADA), viewer('no uuid'), viewer(BOB)])).toEqual([
      [[0, 3], []],
      [[], [0, 1, 2, 3]],
      [[1], []],
    ]);
  });

  it('returns PostgreSQL’s message and SQLSTATE of the first row that failed, and none where no row did', async () => {
    const { facts } = await table(
      'id int PRIMARY KEY, body text',
      (name) => `ALTER TABLE ${name} ENABLE ROW LEVEL SECURITY;
        CREATE POLICY p ON ${name} USING (body::int > 0 AND current_setting('app.current_user_id') <> '')`,
    );
    const rows = [
      ['1', '1'],
      ['2', 'one'],
      ['3', 'x'.repeat(500)],
    ];
    const asked = [[1, 2], [0], [2]].map((own) => ({ viewer: viewer(ADA), rows: own }));
    const results = await steadily(async () => authorizer.evaluatePolicies(await facts(), rows, asked, []));
    expect(results.map(({ failed, error }) => [[...failed], error])).toEqual([
      [[1, 2], { sqlstate: '22P02', message: 'invalid input syntax for type integer: "one"' }],
      [[], undefined],
      [[2], { sqlstate: '22P02', message: expect.stringMatching(/^invalid input .*: "x{10,}$/) }],
    ]);
    expect(results[2]?.error?.message).toHaveLength(200);
  });

  it('replaces the session whose functions have two million characters of conditions', async () => {
    let sessions = 0;
    const counting = new PostgresAuthorizer({
      database: {
        query: (text, values) => database.query(text, values),
        openSession: (purpose) => {
          sessions += 1;
          return database.openSession(purpose);
        },
      },
      enableRls: true,
      clock: () => now,
    });
    try {
      const { oid } = await table('id int PRIMARY KEY, body text');
      const long = 'x'.repeat(40_000);
      for (let call = 0; call < 3; call++) {
        const conditions = Array.from({ length: 20 }, (_, n) => ({
          sql: `body <> '${long}${call}${n}'`,
          columns: ['body'],
        }));
        const results = await steadily(async () => {
          const facts = await counting.facts(oid);
          if (facts === undefined) throw new Error('no such table');
          return counting.evaluateConditions(
            facts,
            [['1', 'y']],
            conditions.map((condition) => ({ condition, rows: [0], payers: [] })),
          );
        });
        expect(results.every(({ visible }) => visible.has(0))).toBe(true);
      }
      const before = sessions;
      await steadily(async () => {
        const facts = await counting.facts(oid);
        if (facts === undefined) throw new Error('no such table');
        return counting.evaluateConditions(
          facts,
          [['1', 'y']],
          [{ condition: { sql: 'true', columns: [] }, rows: [0], payers: [] }],
        );
      });
      expect(sessions).toBe(before + 1);
    } finally {
      counting.stop();
    }
  });

  it('evaluates for each request only the rows that it lists', async () => {
    const { oid, facts } = await table('id int PRIMARY KEY, user_id uuid', OWN);
    const rows = [
      ['1', ADA],
      ['2', ADA],
      ['3', ADA],
    ];
    const [verdict] = await steadily(async () =>
      authorizer.evaluatePolicies(await facts(), rows, [{ viewer: viewer(ADA), rows: [2, 0] }], []),
    );
    expect(verdict).toEqual({ visible: new Set([2, 0]), failed: new Set() });
    expect(oid).toBeGreaterThan(0);
  });

  it('notices an altered policy and a revoked privilege at the next call', async () => {
    const { name, oid, facts } = await table('id int PRIMARY KEY, user_id uuid', OWN);
    const before = await facts();
    await seen(oid, [['1', ADA]], [viewer(ADA)]);
    await sql(test.url, `ALTER POLICY own ON ${name} USING (false)`);
    const again = authorizer.evaluatePolicies(before, [['1', ADA]], [{ viewer: viewer(ADA), rows: [0] }], []);
    await expect(again).rejects.toThrow(StaleFacts);
    expect(await seen(oid, [['1', ADA]], [viewer(ADA)])).toEqual([[[], []]]);
    await sql(test.url, `REVOKE SELECT ON ${name} FROM ${DEFAULT_DB_ROLE}`);
    const after = authorizer.evaluatePolicies(
      await facts(),
      [['1', ADA]],
      [{ viewer: viewer(ADA), rows: [0] }],
      [],
    );
    await expect(after).rejects.toThrow(StaleFacts);
    expect(await authorizer.privileges(await facts(), DEFAULT_DB_ROLE)).toMatchObject({ canSelect: false });
  });

  it('does not prevent a table from being altered or dropped', async () => {
    const { name, oid } = await table('id int PRIMARY KEY, user_id uuid, x int', OWN);
    await seen(oid, [['1', ADA, null]], [viewer(ADA)]);
    await sql(test.url, `ALTER TABLE ${name} DROP COLUMN x; DROP TABLE ${name}`);
    expect(await authorizer.current(oid)).toBeUndefined();
  });

  it('cancels a policy that takes too long, and evaluates the other viewers', async () => {
    const { oid } = await table(
      'id int PRIMARY KEY, user_id text',
      (name) => `ALTER TABLE ${name} ENABLE ROW LEVEL SECURITY;
      CREATE POLICY own ON ${name} USING (user_id = current_setting('app.current_user_id')
        AND (current_setting('app.current_user_id') <> 'slow' OR pg_sleep(60) IS NULL))`,
    );
    const rows = [
      ['1', 'slow'],
      ['2', 'ada'],
    ];
    expect(await seen(oid, rows, [viewer('slow'), viewer('ada')])).toEqual([
      [[], [0, 1]],
      [[1], []],
    ]);
    const started = performance.now();
    expect((await seen(oid, rows, [viewer('slow')]))[0]).toEqual([[], [0, 1]]);
    expect(performance.now() - started).toBeLessThan(900);
    now += 31_000;
    expect((await seen(oid, rows, [viewer('slow'), viewer('ada')]))[1]).toEqual([[1], []]);
  }, 60_000);

  it('reads a list of memberships that takes too long alone, and returns the others', async () => {
    const all = new PostgresAuthorizer({
      database,
      enableRls: true,
      clock: () => now,
      isStreamed: () => 'true',
    });
    // For one user a join of numbers, none of which are smaller and larger than another at once.
    const members = await table(
      'usr text, room int, n int',
      (name) => `
      INSERT INTO ${name} VALUES ('ada', 1, NULL), ('bob', 2, NULL);
      INSERT INTO ${name} SELECT 'slow', 3, n FROM generate_series(1, 20000) n`,
    );
    const { oid } = await table(
      'id int, room int',
      (name) => `
      ALTER TABLE ${name} ENABLE ROW LEVEL SECURITY;
      CREATE POLICY p ON ${name} USING (room IN (
        SELECT a.room FROM ${members.name} a JOIN ${members.name} b ON a.n < b.n AND b.n < a.n
        WHERE a.usr = current_setting('app.current_user_id')
      ) OR room IN (SELECT room FROM ${members.name} WHERE usr = current_setting('app.current_user_id')))`,
    );
    try {
      const users = [viewer('ada'), viewer('slow'), viewer('bob')];
      const parameters = await steadily(async () => {
        const facts = await all.facts(oid);
        if (facts === undefined) throw new Error('no such table');
        expect((await all.privileges(facts, DEFAULT_DB_ROLE)).policyCompilation).toHaveProperty('compiled');
        return all.evaluateParameters(facts, DEFAULT_DB_ROLE, users, []);
      });
      const rooms = parameters.map((own) =>
        parametersOf(own)?.flatMap((parameter) =>
          parameter !== null && typeof parameter === 'object' && 'values' in parameter
            ? [...parameter.values]
            : [],
        ),
      );
      expect(rooms).toEqual([['1'], undefined, ['2']]);
    } finally {
      all.stop();
    }
  });

  it('computes generated columns from the row', async () => {
    const { oid } = await table(
      `id int PRIMARY KEY, owner text, lowered text GENERATED ALWAYS AS (lower(owner)) STORED`,
      (name) => `ALTER TABLE ${name} ENABLE ROW LEVEL SECURITY;
        CREATE POLICY own ON ${name} USING (lowered = current_setting('app.current_user_id'))`,
    );
    const rows = [
      ['1', 'ADA', null],
      ['2', 'BOB', null],
    ];
    expect(await seen(oid, rows, [viewer('ada')])).toEqual([[[0], []]]);
  });

  it('evaluates each condition on its rows alone, and returns those on which it raised an error', async () => {
    const { facts } = await table('id int PRIMARY KEY, n int');
    const asked = [
      [0, 1, 2],
      [1, 0],
      [2, 1],
      [0, 2],
    ];
    const conditions = ['("n" > 1)', '((10 / "n") = 5)', '("n" IS NULL)', '((10 / "n") = 5)'].map((text) => ({
      sql: text,
      columns: ['n'],
    }));
    const rows = [
      ['1', '2'],
      ['2', '0'],
      ['3', null],
    ];
    const verdicts = await steadily(async () =>
      authorizer.evaluateConditions(
        await facts(),
        rows,
        conditions.map((condition, n) => ({ condition, rows: asked[n] ?? [], payers: [] })),
      ),
    );
    expect(verdicts.map(({ visible, failed }) => [[...visible], [...failed]])).toEqual([
      [[0], []],
      [[0], [1]],
      [[2], []],
      // Division by zero is on row 1, which is not asked for.
      [[0], []],
    ]);
  });

  it('finds the same errors on a row whatever other rows a condition is evaluated on', async () => {
    const { facts } = await table('id int PRIMARY KEY, n int, body text');
    // Of an AND, PostgreSQL evaluates the cheapest part first where it can.
    const condition = { sql: `((10 / "n" > 1) AND ("body" = 'x'))`, columns: ['n', 'body'] };
    const [first, raising] = [
      ['1', '0', 'y'],
      ['2', '0', 'x'],
    ];
    for (const rows of [[first], [first, raising]]) {
      const [result] = await steadily(async () =>
        authorizer.evaluateConditions(
          await facts(),
          rows.map((row) => row ?? []),
          [{ condition, rows: [...rows.keys()], payers: [] }],
        ),
      );
      expect(result?.failed.has(0)).toBe(true);
    }
  });

  it('evaluates the parts of a policy in the order of a SELECT, also on single rows after an error', async () => {
    const { oid } = await table(
      'id int PRIMARY KEY, n int, body text',
      (name) => `ALTER TABLE ${name} ENABLE ROW LEVEL SECURITY;
        CREATE POLICY p ON ${name} USING (10 / n > 1 AND body = 'x')`,
    );
    const rows = [
      ['1', '0', 'y'],
      ['2', '0', 'x'],
      ['3', '1', 'x'],
    ];
    expect(await seen(oid, rows, [viewer(ADA)])).toEqual([[[2], [1]]]);
  });

  it('measures how long each condition takes, and how long most of the call do', async () => {
    const { facts } = await table('id int PRIMARY KEY, n int');
    const slow = `(pg_sleep(0.05)::text = '')`;
    const requests = [slow, slow, '("n" > 1)'].map((text, n) => ({
      condition: { sql: text, columns: ['n'] },
      rows: [0],
      payers: [n < 2 ? 'eve' : 'ada'],
    }));
    const results = await steadily(async () =>
      authorizer.evaluateConditions(await facts(), [['1', '2']], requests),
    );
    expect(results.map(({ tookMs }) => tookMs >= 50)).toEqual([true, true, false]);
    expect(new Set(results.map(({ medianMs }) => medianMs < 10))).toEqual(new Set([true]));
  });

  it('evaluates all other viewers if one makes the call fail, which is not asked again for a while', async () => {
    const { oid } = await table('id int PRIMARY KEY, user_id uuid', OWN);
    const rows = [
      ['1', ADA],
      ['2', BOB],
    ];
    const users = [viewer(ADA), viewer('a\0b'), viewer(BOB), viewer('c', { x: 1 }), viewer('d\0')];
    const expected = [
      [[0], []],
      [[], [0, 1]],
      [[1], []],
      [[], [0, 1]],
      [[], [0, 1]],
    ];
    expect(await seen(oid, rows, users)).toEqual(expected);
    const query = vi.spyOn(SqlSession.prototype, 'query');
    try {
      expect(await seen(oid, rows, users)).toEqual(expected);
      expect(query).toHaveBeenCalledTimes(1);
    } finally {
      query.mockRestore();
    }
  });

  it('evaluates the parameters of all other viewers if one makes the call fail', async () => {
    const { facts } = await table(
      'id int PRIMARY KEY, owner text',
      (name) => `ALTER TABLE ${name} ENABLE ROW LEVEL SECURITY;
        CREATE POLICY own ON ${name} USING (owner = current_setting('app.current_user_id'))`,
    );
    const users = [
      viewer('ada'),
      viewer('a\0b'),
      viewer('bob'),
      { ...viewer('eve'), isUnstorable: true as const },
    ];
    const found = await steadily(async () =>
      authorizer.evaluateParameters(await facts(), DEFAULT_DB_ROLE, users, []),
    );
    expect(found.map(parametersOf)).toEqual([['ada'], undefined, ['bob'], undefined]);
  });

  it('evaluates all other rows if PostgreSQL cannot read one as a row of the table any more', async () => {
    const type = `mood_${tables}`;
    await sql(test.url, `CREATE TYPE ${type} AS ENUM ('good', 'bad')`);
    const { oid, facts } = await table(
      `id int PRIMARY KEY, mood ${type}, owner text, half int GENERATED ALWAYS AS (id / 2) STORED`,
      (name) => `ALTER TABLE ${name} ENABLE ROW LEVEL SECURITY;
        CREATE POLICY own ON ${name} USING (lower(owner) = current_setting('app.current_user_id') OR owner IS NULL)`,
    );
    const rows = ['good', 'fine', 'bad', 'gone', 'good'].map((mood, n) => [String(n), mood, 'ada', null]);
    expect(await seen(oid, rows, [viewer('ada'), viewer('bob')])).toEqual([
      [
        [0, 2, 4],
        [1, 3],
      ],
      [[], [1, 3]],
    ]);
    const results = await steadily(async () =>
      authorizer.evaluateConditions(await facts(), rows, [
        { condition: { sql: '("id" < 2)', columns: ['id'] }, rows: [...rows.keys()], payers: [] },
      ]),
    );
    expect(results).toMatchObject([
      {
        visible: new Set([0]),
        failed: new Set([1, 3]),
        error: { sqlstate: '22P02', message: `invalid input value for enum ${type}: "fine"` },
      },
    ]);
  });
});
