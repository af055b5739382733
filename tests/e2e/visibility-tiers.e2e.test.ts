import { tmpdir } from 'node:os';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { runCli } from '../support/cli.js';
import { eventually } from '../support/eventually.js';
import { ADA, BOB, nextChange, run, subscribe } from '../support/row-changes.js';
import { join, type TestClient } from '../support/test-client.js';
import { startRowChangeServer, type TestServer } from '../support/test-server.js';

let server: TestServer;
let admin: string;
beforeEach(async () => {
  server = await startRowChangeServer();
  admin = await server.token('root', 'admin');
  await run(
    server,
    `CREATE TABLE notes (id int PRIMARY KEY, owner uuid, rank int, body text); ALTER TABLE notes ENABLE ROW LEVEL SECURITY;
     CREATE FUNCTION uid() RETURNS uuid LANGUAGE sql STABLE AS $$ SELECT (current_setting('request.jwt.claims', true)::jsonb ->> 'sub')::uuid $$;
     CREATE POLICY p ON notes USING (owner = (SELECT uid()))`,
  );
  await subscribe(server, 'lobby', { table: 'notes' });
});
afterEach(() => server.stop());

async function tier(): Promise<[tier: string, reason: string]> {
  const { body } = await server.call('GET', '/realtime/triggers', { token: admin });
  const tables = body.triggers as unknown as {
    table: string;
    visibility: [{ role: string; tier: string; reason: string }];
  }[];
  const [first] = tables.find(({ table }) => table === 'notes')?.visibility ?? [];
  expect(first?.role).toBe('realtime_subscriber');
  return [first?.tier ?? '', first?.reason ?? ''];
}

/** The catalog is checked every 500 ms; a loaded machine takes longer. */
const MAX_POLL_MS = 3_000;

let rows = 0;

/**
 * Inserts a row of Ada with rank 1, and then runs `statement` in the same transaction. Returns for each client whether it
 * received the row.
 */
async function whoReceives(clients: readonly TestClient[], statement = ''): Promise<boolean[]> {
  const id = ++rows;
  await run(
    server,
    `BEGIN; INSERT INTO notes VALUES (${id}, '${ADA}', 1, 'x'); ${statement}; COMMIT; SELECT realtime.send('lobby', 'end', '{}')`,
  );
  const got: boolean[] = [];
  for (const client of clients) {
    await client.next('message', 'end');
    got.push(client.all('database_change').some(({ payload }) => payload.change.new_record?.id === id));
  }
  return got;
}

test.each([
  [`owner = (SELECT uid())`, 'INDEXED', 'rows are looked up by owner', [true, false]],
  [`owner = uid() AND rank < 5`, 'INDEXED', 'rows are looked up by owner', [true, false]],
  [`owner = uid() OR body = 'public'`, 'INDEXED', 'rows are looked up by owner', [true, false]],
  [`true`, 'INDEXED', 'the policies do not compare the row with the user', [true, true]],
  [`owner <> uid()`, 'COMPILED', 'no column must equal a value of the user', [false, true]],
  [`owner = uid() AND body ~ '^x'`, 'POSTGRES', 'policy p: it has the operator ~', [true, false]],
  [`owner = uid() AND lower(body) = 'x'`, 'POSTGRES', 'policy p: it computes with columns', [true, false]],
  [
    `EXISTS (SELECT WHERE owner = uid())`,
    'POSTGRES',
    'policy p: it has a sub-select over no table or more than 2',
    [true, false],
  ],
])('the policy %s is evaluated as %s: %s', async (policy, expected, reason, seen) => {
  const clients = [await join(server, 'lobby', ADA), await join(server, 'lobby', BOB)];
  expect(await tier()).toEqual(['INDEXED', 'rows are looked up by owner']);
  await run(server, `ALTER POLICY p ON notes USING (${policy})`);
  expect(await whoReceives(clients)).toEqual(seen);
  expect(await tier()).toEqual([expected, reason]);
});

const SUPABASE = `
  CREATE SCHEMA auth;
  CREATE FUNCTION auth.uid() RETURNS uuid LANGUAGE sql STABLE AS $$
    select coalesce(nullif(current_setting('request.jwt.claim.sub', true), ''),
      (nullif(current_setting('request.jwt.claims', true), '')::jsonb ->> 'sub'))::uuid $$;
  CREATE FUNCTION auth.jwt() RETURNS jsonb LANGUAGE sql STABLE AS $$
    select coalesce(nullif(current_setting('request.jwt.claim', true), ''), nullif(current_setting('request.jwt.claims', true), ''))::jsonb $$;
  CREATE TABLE members (room int, usr uuid, PRIMARY KEY (room, usr)); GRANT SELECT ON members TO realtime_subscriber;
  INSERT INTO members VALUES (1, '${ADA}');
  DROP POLICY p ON notes;`;

test.each([
  ['owner', 'USING (owner = (SELECT auth.uid()))', 'rows are looked up by owner', [true, false]],
  [
    'tenant',
    `USING (owner = ((SELECT auth.jwt()) ->> 'sub')::uuid)`,
    'rows are looked up by owner',
    [true, false],
  ],
  [
    'room membership',
    'USING (rank IN (SELECT room FROM members WHERE usr = (SELECT auth.uid())))',
    'rows are looked up by rank',
    [true, false],
  ],
  [
    'roles',
    `USING (((SELECT auth.jwt()) ->> 'sub') = '${ADA}')`,
    'the policies do not compare the row with the user',
    [true, false],
  ],
  [
    'public rows',
    `USING (body = 'x' OR owner = (SELECT auth.uid()))`,
    'rows are looked up by owner',
    [true, true],
  ],
  [
    'soft delete',
    `USING (owner = auth.uid()); CREATE POLICY gone ON notes AS RESTRICTIVE USING (body IS NOT NULL)`,
    'rows are looked up by owner',
    [true, false],
  ],
])(
  'the pattern of the guide is indexed, with the functions of Supabase: %s',
  async (_, policy, reason, seen) => {
    await run(server, `${SUPABASE} CREATE POLICY p ON notes ${policy}`);
    await server.call('POST', '/realtime/triggers/members', { token: admin, body: {} });
    const clients = [await join(server, 'lobby', ADA), await join(server, 'lobby', BOB)];
    expect(await whoReceives(clients)).toEqual(seen);
    expect((await tier()).at(1)).toBe(reason);
  },
);

test('a role without an applicable policy receives nothing, and everything without row level security', async () => {
  const clients = [await join(server, 'lobby', ADA), await join(server, 'lobby', BOB)];
  await run(server, 'DROP POLICY p ON notes');
  expect(await whoReceives(clients)).toEqual([false, false]);
  expect(await tier()).toEqual(['CLOSED', 'no policy lets a row pass']);
  await run(server, 'ALTER TABLE notes DISABLE ROW LEVEL SECURITY');
  expect(await whoReceives(clients)).toEqual([true, true]);
  expect(await tier()).toEqual(['OPEN', 'row level security does not apply']);
});

test.each(['BYPASSRLS', 'SUPERUSER'])('no subscriber is evaluated as a role with %s', async (attribute) => {
  await run(server, `ALTER TABLE notes DISABLE ROW LEVEL SECURITY`);
  const clients = [await join(server, 'lobby', ADA)];
  expect(await whoReceives(clients)).toEqual([true]);
  const role = `beyond_${Math.random().toString(36).slice(2, 10)}`;
  await run(server, `CREATE ROLE ${role} ${attribute}; GRANT SELECT ON notes TO ${role}`);
  const other = await startRowChangeServer(
    { DATABASE_URL: server.databaseUrl, REALTIME_DB_ROLES: role, REALTIME_REPLICATION_SLOT: role },
    {},
  );
  try {
    const token = await other.token('root', 'admin');
    const { body } = await other.call('GET', '/realtime/triggers', { token });
    expect(JSON.stringify(body.triggers)).toContain(
      `{"role":"${role}","tier":"CLOSED","reason":"the role is a superuser or has BYPASSRLS, and no subscriber is evaluated as such a role"}`,
    );
  } finally {
    await other.stop();
    await run(server, `SELECT pg_drop_replication_slot('${role}'); DROP OWNED BY ${role}; DROP ROLE ${role}`);
  }
});

test('every member receives each TRUNCATE, even two in one transaction', async () => {
  const clients = [await join(server, 'lobby', ADA), await join(server, 'lobby', BOB)];
  await run(
    server,
    `BEGIN; TRUNCATE notes; TRUNCATE notes; SELECT realtime.send('lobby', 'end', '{}'); COMMIT`,
  );
  for (const client of clients) {
    await client.next('message', 'end');
    expect(client.all('database_change').map(({ event }) => event)).toEqual([
      'TRUNCATE.notes',
      'TRUNCATE.notes',
    ]);
  }
});

test('replacing a function that policies call takes effect within half a second', async () => {
  const clients = [await join(server, 'lobby', ADA), await join(server, 'lobby', BOB)];
  expect(await whoReceives(clients)).toEqual([true, false]);
  await run(
    server,
    `CREATE OR REPLACE FUNCTION uid() RETURNS uuid LANGUAGE sql STABLE AS $$ SELECT '${ADA}'::uuid $$`,
  );
  await eventually(async () => expect(await whoReceives(clients)).toEqual([true, true]), MAX_POLL_MS);
});

test.each([
  ['ALTER POLICY p ON notes USING (false)', [false, false]],
  ['REVOKE SELECT ON notes FROM realtime_subscriber', [false, false]],
  [
    'ALTER POLICY p ON notes USING (true); ALTER FUNCTION uid() RENAME TO uid2; CREATE POLICY q ON notes AS RESTRICTIVE USING (owner <> uid2())',
    [false, true],
  ],
  ['ALTER TABLE notes DISABLE ROW LEVEL SECURITY', [true, true]],
])(
  'a row is delivered as the transaction that wrote it leaves the policies: INSERT, then %s',
  async (statement, seen) => {
    const clients = [await join(server, 'lobby', ADA), await join(server, 'lobby', BOB)];
    expect(await whoReceives(clients)).toEqual([true, false]);
    expect(await whoReceives(clients, statement)).toEqual(seen);
  },
);

test('granting and revoking a role takes effect within half a second', async () => {
  const role = `team_${Math.random().toString(36).slice(2, 10)}`;
  await run(server, `CREATE ROLE ${role}; ALTER POLICY p ON notes TO ${role} USING (owner = uid())`);
  try {
    const clients = [await join(server, 'lobby', ADA)];
    expect(await whoReceives(clients)).toEqual([false]);
    await run(server, `GRANT ${role} TO realtime_subscriber WITH INHERIT TRUE`);
    await eventually(async () => expect(await whoReceives(clients)).toEqual([true]), MAX_POLL_MS);
    await run(server, `REVOKE ${role} FROM realtime_subscriber`);
    await eventually(async () => expect(await whoReceives(clients)).toEqual([false]), MAX_POLL_MS);
  } finally {
    await run(server, `DROP POLICY p ON notes; DROP ROLE ${role}`);
  }
});

test('doctor and metrics report the tier of each table', async () => {
  const env = { DATABASE_URL: server.databaseUrl };
  const { stdout } = await runCli(['doctor'], { cwd: tmpdir(), env });
  expect(stdout).toContain('public.notes for realtime_subscriber: INDEXED, rows are looked up by owner.');
  await eventually(async () => {
    const { text } = await server.call('GET', '/metrics', { token: admin });
    expect(text).toMatch(/^realtime_visibility_tier_tables\{tier="INDEXED"\} 1$/m);
  }, 12_000);
});

test('a member that adds a personal subscription misses no change', async () => {
  const ada = await join(server, 'lobby', ADA);
  ada.send({
    type: 'subscribe',
    event: 'database_changes',
    ref: '1',
    payload: { table: 'notes' },
  });
  await ada.next('reply');
  await run(server, `INSERT INTO notes VALUES (1000, '${ADA}', 1, 'x')`);
  expect((await nextChange(ada)).new_record).toMatchObject({ id: 1000 });
});
