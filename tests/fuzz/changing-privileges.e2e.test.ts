import pg from 'pg';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { ADA, BOB, run, subscribe } from '../support/row-changes.js';
import { join, type TestClient } from '../support/test-client.js';
import { startRowChangeServer, type TestServer } from '../support/test-server.js';
import { Random } from './random.js';

/** Change these with `npm run test:fuzz -- --cases N --seed S`. A case is one row and one member. */
const CASES = Number(process.env.FUZZ_CASES ?? 20_000) / 40;
const SEED = Number(process.env.FUZZ_SEED ?? 20_261_127);

const SCHEMA = `
  CREATE TABLE notes (id int PRIMARY KEY, owner uuid, team int, body text);
  CREATE TABLE members (usr uuid, team int, PRIMARY KEY (usr, team));
  GRANT SELECT ON members TO realtime_subscriber;
  ALTER TABLE notes ENABLE ROW LEVEL SECURITY;
  CREATE FUNCTION uid() RETURNS uuid LANGUAGE sql STABLE AS $$ SELECT (current_setting('request.jwt.claims', true)::jsonb ->> 'sub')::uuid $$;
  CREATE POLICY p ON notes USING (true)`;
/** Policies of all tiers, and one that raises an error. */
const POLICIES = [
  'true',
  'owner = uid()',
  'owner IS NOT DISTINCT FROM uid()',
  `body = 'b1' OR owner = uid()`,
  `current_setting('request.jwt.claims')::jsonb ->> 'role' = 'red'`,
  `lower(body) = 'b0'`,
  'owner = uid() AND 1 / team > 0',
];
const MEMBERSHIPS = [
  'team IN (SELECT m.team FROM members m WHERE m.usr = uid())',
  'EXISTS (SELECT FROM members m WHERE m.team = notes.team AND m.usr = (SELECT uid()))',
];
const ROLES = ['red', 'blue'];
/** The condition of the personal subscriptions. */
const CONDITION = 'team > 0';

interface Member {
  readonly user: string;
  role: string;
  readonly client: TestClient;
  /** Whether the member has a personal subscription, with the condition. */
  readonly isPersonal: boolean;
}

let server: TestServer;
let sql: pg.Client;
let members: Member[];
const random = new Random(SEED);
let rows = 0;

beforeAll(async () => {
  server = await startRowChangeServer();
  await run(server, SCHEMA);
  await subscribe(server, 'lobby', { table: 'notes' });
  const token = await server.token('root', 'admin');
  await server.call('POST', '/realtime/triggers/members', { token, body: {} });
  await run(server, `SELECT realtime.send('alone', 'begin', '{}')`);
  members = [];
  for (const [user, isPersonal] of [
    [ADA, false],
    [BOB, false],
    [ADA, true],
    [BOB, true],
  ] as const) {
    const client = await join(server, isPersonal ? 'alone' : 'lobby', user, { role: 'red' });
    if (isPersonal) {
      const payload = { table: 'notes', condition: CONDITION };
      client.send({ type: 'subscribe', event: 'database_changes', payload, ref: 1 });
      expect((await client.next('reply')).event).toBe('ok');
    }
    members.push({ user, role: 'red', client, isPersonal });
  }
  sql = new pg.Client({ connectionString: server.databaseUrl });
  await sql.connect();
});
afterAll(async () => {
  await sql.end();
  await server.stop();
});

/**
 * Returns a statement that changes row visibility. Most change memberships, because a catalog change reloads
 * everything.
 */
function randomChange(): string {
  const user = random.of([ADA, BOB]);
  if (random.chance(0.7))
    return random.of([
      `INSERT INTO members VALUES ('${user}', ${random.below(3)}) ON CONFLICT DO NOTHING`,
      `INSERT INTO members VALUES ('${user}', ${random.below(3)}) ON CONFLICT DO NOTHING`,
      `DELETE FROM members WHERE usr = '${user}'`,
      'TRUNCATE members',
    ]);
  const policy = random.of(random.chance(0.5) ? POLICIES : MEMBERSHIPS);
  return random.of([
    `ALTER POLICY p ON notes USING (${policy})`,
    `ALTER POLICY p ON notes USING (${policy})`,
    `DROP POLICY IF EXISTS q ON notes; CREATE POLICY q ON notes AS RESTRICTIVE USING (${policy})`,
    'DROP POLICY IF EXISTS q ON notes',
    `ALTER TABLE notes ${random.chance(0.7) ? 'ENABLE' : 'DISABLE'} ROW LEVEL SECURITY`,
    'REVOKE SELECT ON notes FROM realtime_subscriber',
    'REVOKE SELECT ON notes FROM realtime_subscriber; GRANT SELECT (id, team) ON notes TO realtime_subscriber',
    'REVOKE SELECT ON notes FROM realtime_subscriber; GRANT SELECT (id, body) ON notes TO realtime_subscriber',
    'GRANT SELECT ON notes TO realtime_subscriber',
    'GRANT SELECT ON notes TO realtime_subscriber',
  ]);
}

/**
 * Returns the columns of the row that a SELECT shows this member; undefined: the row is hidden or not
 * subscribed to.
 */
async function visibleColumns(id: number, { user, role, isPersonal }: Member): Promise<string[] | undefined> {
  await sql.query('BEGIN');
  try {
    await sql.query(
      `SELECT set_config('request.jwt.claims', $1, true), set_config('app.current_user_id', $2, true), set_config('role', 'realtime_subscriber', true)`,
      [JSON.stringify({ sub: user, role }), user],
    );
    const where = isPersonal ? ` AND ${CONDITION}` : '';
    const { rowCount } = await sql.query(`SELECT id FROM notes WHERE id = $1${where}`, [id]);
    if (rowCount === 0) return undefined;
    const columns = await sql.query<{ name: string }>(
      `SELECT attname AS name FROM pg_attribute WHERE attrelid = 'notes'::regclass AND attnum > 0
         AND has_column_privilege(attrelid, attnum, 'SELECT') ORDER BY attnum`,
    );
    return columns.rows.map(({ name }) => name);
  } catch {
    return undefined;
  } finally {
    await sql.query('ROLLBACK');
  }
}

test(
  `a row is delivered to the members to whom a SELECT shows it while privileges, policies, memberships and claims change: seed ${SEED}`,
  async () => {
    let [cases, seen] = [0, 0];
    while (cases < CASES) {
      const statements = Array.from({ length: random.below(3) }, randomChange);
      const id = ++rows;
      const insert = `INSERT INTO notes VALUES (${id}, '${random.of([ADA, BOB])}', ${random.below(3)}, 'b${random.below(2)}')`;
      statements.splice(random.below(statements.length + 1), 0, insert);
      const refreshed = random.chance(0.2) ? random.of(members) : undefined;
      if (refreshed !== undefined) {
        refreshed.role = random.of(ROLES);
        const token = await server.token(refreshed.user, refreshed.role);
        refreshed.client.send({ type: 'auth', event: 'refresh', payload: { token }, ref: `r${id}` });
        await refreshed.client.next('reply', undefined, ({ ref }) => ref === `r${id}`);
      }
      const end = `SELECT realtime.send(channel, 'end', '{}') FROM unnest('{lobby,alone}'::text[]) channel`;
      await sql.query(`BEGIN; ${statements.join(';')}; ${end}; COMMIT`);
      for (const member of members) {
        await member.client.next('message', 'end');
        const { isPersonal, user, role } = member;
        const got = member.client
          .all('database_change')
          .find(({ payload }) => payload.change.new_record?.id === id)?.payload.change.new_record;
        const columns = got === undefined || got === null ? undefined : Object.keys(got);
        const about = { n: cases, statements, isPersonal, user, role };
        expect({ ...about, columns }).toEqual({ ...about, columns: await visibleColumns(id, member) });
        cases += 1;
        if (columns !== undefined) seen += 1;
      }
    }
    console.info(`changing privileges: ${cases} cases, ${seen} seen, 0 differences, seed ${SEED}`);
    expect(seen).toBeGreaterThan(cases * 0.1);
    expect(seen).toBeLessThan(cases * 0.9);
  },
  Math.max(120_000, CASES * 200),
);
