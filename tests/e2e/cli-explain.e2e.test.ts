import { tmpdir } from 'node:os';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { type Finished, runCli } from '../support/cli.js';
import { ADA, BOB, run, subscribe } from '../support/row-changes.js';
import { join } from '../support/test-client.js';
import { startRowChangeServer, type TestServer } from '../support/test-server.js';

let server: TestServer;
let subscription: string;
beforeAll(async () => {
  server = await startRowChangeServer();
  await run(
    server,
    `CREATE TABLE notes (id int PRIMARY KEY, owner uuid, secret text); ALTER TABLE notes ENABLE ROW LEVEL SECURITY;
     CREATE POLICY own ON notes USING (owner = current_setting('app.current_user_id')::uuid);
     INSERT INTO notes VALUES (1, '${ADA}', 's')`,
  );
  subscription = await subscribe(server, 'lobby', { table: 'notes', condition: 'id < 3' });
});
afterAll(() => server.stop());

async function explain(...args: string[]): Promise<Finished> {
  const token = await server.token('root', 'admin');
  return runCli(['explain', '--url', server.url, '--token', token, ...args], { cwd: tmpdir(), env: {} });
}

test('explain prints as text why a user receives a row', async () => {
  const client = await join(server, 'lobby', ADA);
  const answer = await explain('--user', ADA, '--subscription', subscription, '--key', '{"id": 1}');
  expect(answer).toMatchObject({ code: 0, stderr: '' });
  expect(answer.stdout.split('\n')).toEqual([
    `${ADA} (as realtime_subscriber) receives the row.`,
    '  These policies let it pass: own (true).',
    `policy own: true   (owner = (current_setting('app.current_user_id'::text))::uuid)`,
    'condition: true   id < 3',
    'evaluated: INDEXED, rows are looked up by owner',
    'connections: 1',
    '',
  ]);
  await client.close();
});

test('explain prints as JSON why a user does not receive a row, and explains a change by its cursor', async () => {
  const row = JSON.stringify({ id: 2, owner: ADA });
  const { code, stdout } = await explain(
    '--claims',
    `{"user_id": "${BOB}"}`,
    '--table',
    'notes',
    '--row',
    row,
    '--format',
    'json',
  );
  expect([code, JSON.parse(stdout)]).toEqual([
    1,
    expect.objectContaining({
      visible: false,
      user_id: BOB,
      reasons: ['No policy lets it pass: own (false).'],
    }),
  ]);
  const client = await join(server, 'lobby', ADA);
  await run(server, `UPDATE notes SET owner = '${BOB}'`);
  const { cursor = '' } = await client.next('database_change');
  const lost = await explain('--user', ADA, '--at', cursor);
  const lines = lost.stdout.split('\n');
  expect([lost.code, lines[0], lines[3]]).toEqual([
    0,
    `${ADA} (as realtime_subscriber) receives the UPDATE (visibility: lost).`,
    '  Evaluated with the current privileges, policies and memberships.',
  ]);
});

test.each([
  [['--table', 'notes', '--key', '{"id": 1}'], 'Give one of --user and --claims.'],
  [['--user', 'a', '--key', '{"id": 1}'], 'Give --subscription or --table.'],
  [['--user', 'a', '--table', 'notes'], 'Give one of --key, --row and --at.'],
  [['--user', 'a', '--table', 'notes', '--key', 'x'], '--key must be JSON, such as {"id": 7}.'],
  [
    ['--user', 'a', '--table', 'none', '--key', '{"id": 1}'],
    "The server answered 404: Table 'none' does not exist.",
  ],
  [
    ['--user', 'a', '--table', 'notes', '--key', '{"id": 1}', '--format', 'xml'],
    '--format must be text or json.',
  ],
  [
    ['--user', 'a', '--table', 'notes', '--key', '{"id": 1}', '--url', 'http://127.0.0.1:1'],
    'The server at http://127.0.0.1:1 does not answer. Start it, or give its address with --url.',
  ],
])('explain refuses the arguments %j: %s', async (args, message) => {
  expect(await explain(...args)).toEqual({ code: 2, stdout: '', stderr: `${message}\n` });
});

test('explain says what to set when the server has another key than this command', async () => {
  const args = ['explain', '--url', server.url, '--user', ADA, '--table', 'notes', '--key', '{"id": 1}'];
  const env = { REALTIME_JWT_SECRET: 'another-secret-of-thirty-two-characters' };
  const { code, stderr } = await runCli(args, { cwd: tmpdir(), env });
  expect(code).toBe(2);
  expect(stderr).toMatch(/signed with another key\. Give the settings of the server/);
});
