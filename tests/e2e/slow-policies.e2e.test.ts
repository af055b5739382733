import { tmpdir } from 'node:os';
import type { Log } from '@goforward/realtime';
import pg from 'pg';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { runCli } from '../support/cli.js';
import { eventually } from '../support/eventually.js';
import { ADA, BOB, nextChange, run, subscribe } from '../support/row-changes.js';
import { join, type TestClient } from '../support/test-client.js';
import { startRowChangeServer, type TestServer } from '../support/test-server.js';

const SLOW_USER = '33333333-3333-4333-8333-333333333333';
const LOCK = 7;
const WARNING = 'A policy or condition is slow; members that need it get their row changes later than others';

/** `wait_for_test()` waits while the test holds its lock. */
const SCHEMA = `
  CREATE TABLE open_notes (id int PRIMARY KEY, owner uuid); ALTER TABLE open_notes ENABLE ROW LEVEL SECURITY;
  CREATE POLICY everybody ON open_notes USING (true);
  CREATE TABLE notes (id int PRIMARY KEY, owner uuid); ALTER TABLE notes ENABLE ROW LEVEL SECURITY;
  CREATE FUNCTION take_time() RETURNS boolean LANGUAGE plpgsql STABLE AS
    $$ BEGIN PERFORM pg_sleep(0.3); RETURN true; END $$;
  CREATE FUNCTION wait_for_test() RETURNS boolean LANGUAGE plpgsql STABLE AS
    $$ BEGIN PERFORM pg_advisory_lock_shared(${LOCK}); PERFORM pg_advisory_unlock_shared(${LOCK}); RETURN true; END $$;`;

let server: TestServer;
let holder: pg.Client;
let warnings: Record<string, unknown>[];
beforeEach(async () => {
  warnings = [];
  const ignore = () => undefined;
  const log: Log = {
    debug: ignore,
    info: ignore,
    error: ignore,
    warn: (fields, text) => void warnings.push({ ...fields, text }),
    child: () => log,
  };
  server = await startRowChangeServer({}, { log });
  await run(server, SCHEMA);
  holder = new pg.Client({ connectionString: server.databaseUrl });
  await holder.connect();
});
afterEach(async () => {
  await holder.end();
  await server.stop();
});

async function hold(): Promise<void> {
  await holder.query(`SELECT pg_advisory_lock(${LOCK})`);
}

async function release(): Promise<void> {
  await holder.query(`SELECT pg_advisory_unlock(${LOCK})`);
}

async function idsOf(client: TestClient, count: number): Promise<unknown[]> {
  const ids: unknown[] = [];
  while (ids.length < count) ids.push((await nextChange(client)).new_record?.id);
  return ids;
}

async function delayedMembers(): Promise<number> {
  const { text } = await server.call('GET', '/metrics', { token: await server.token('root', 'admin') });
  return Number(/^realtime_change_stream_members_delayed (\d+)$/m.exec(text)?.[1]);
}

test('a user whose policy is slow gets every change in order and once, as do others of the same channel and of other tables, and the log names the policy', async () => {
  await run(
    server,
    `CREATE POLICY slow_for_one ON notes USING (CASE WHEN current_setting('app.current_user_id') = '${SLOW_USER}' THEN take_time() ELSE id > 0 END)`,
  );
  await subscribe(server, 'lobby', { table: 'notes' });
  await subscribe(server, 'lobby', { table: 'open_notes' });
  await subscribe(server, 'other', { table: 'open_notes' });
  const slow = await join(server, 'lobby', SLOW_USER);
  const ada = await join(server, 'lobby', ADA);
  const bob = await join(server, 'other', BOB);
  await run(server, `INSERT INTO notes VALUES (1); INSERT INTO open_notes VALUES (2)`);
  await run(server, `INSERT INTO open_notes VALUES (3)`);
  expect(await idsOf(bob, 2)).toEqual([2, 3]);
  expect(await idsOf(ada, 3)).toEqual([1, 2, 3]);
  expect(await idsOf(slow, 3)).toEqual([1, 2, 3]);
  await run(server, `INSERT INTO notes VALUES (4); INSERT INTO open_notes VALUES (5)`);
  for (const client of [slow, ada]) expect(await idsOf(client, 2)).toEqual([4, 5]);
  expect(slow.all('system', 'gap')).toEqual([]);
  expect(warnings.filter(({ text }) => text === WARNING)).toEqual([
    {
      table: 'public.notes',
      role: 'realtime_subscriber',
      tier: 'POSTGRES',
      evaluated: 'policy',
      policies: ['slow_for_one'],
      ms: expect.any(Number),
      text: WARNING,
    },
  ]);
});

test('a policy that is slow for everybody delays nobody on another table, and row changes stay streaming', async () => {
  await run(server, 'CREATE POLICY slow ON notes USING (wait_for_test())');
  await subscribe(server, 'lobby', { table: 'notes' });
  await subscribe(server, 'other', { table: 'open_notes' });
  const slow = [await join(server, 'lobby', ADA), await join(server, 'lobby', BOB)];
  const victim = await join(server, 'other', SLOW_USER);
  await hold();
  await run(server, `INSERT INTO notes VALUES (1)`);
  for (const id of [1, 2, 3]) {
    await run(server, `INSERT INTO open_notes VALUES (${id})`);
    expect(await idsOf(victim, 1)).toEqual([id]);
  }
  await eventually(async () => expect(await delayedMembers()).toBe(2));
  for (const client of slow) expect(client.all('database_change')).toEqual([]);
  const { body } = await server.call('GET', '/readyz');
  expect(body).toMatchObject({ status: 'ready', parts: { row_changes: { status: 'streaming' } } });
  await release();
});

test('doctor names a policy that takes longer than 50 ms for one row, and no other', async () => {
  await run(
    server,
    `CREATE POLICY quick ON notes USING (id = 1);
     CREATE POLICY slow ON notes USING (take_time())`,
  );
  await subscribe(server, 'lobby', { table: 'notes' });
  const { stdout } = await runCli(['doctor'], { cwd: tmpdir(), env: { DATABASE_URL: server.databaseUrl } });
  expect(stdout).toMatch(/GF130 warning: 1 policy is slow\n.+ Policy slow of public\.notes: \d+ ms\./);
});
