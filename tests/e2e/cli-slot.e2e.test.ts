import { tmpdir } from 'node:os';
import { describe, expect, test } from 'vitest';
import { runCli } from '../support/cli.js';
import { createTestDatabase, sql } from '../support/postgres-database.js';
import { subscribe } from '../support/row-changes.js';
import { join } from '../support/test-client.js';
import { startRowChangeServer } from '../support/test-server.js';

const run = (args: readonly string[], env: Readonly<Record<string, string>>) =>
  runCli(args, { cwd: tmpdir(), env });

describe('slot', () => {
  test('shows the slot, recreates it with a gap that clients receive, and drops it', async () => {
    const database = await createTestDatabase();
    const slot = `cli_${Date.now().toString(36)}`;
    const env = { DATABASE_URL: database.url, REALTIME_REPLICATION_SLOT: slot };
    const start = () => startRowChangeServer(env);
    let server = await start();
    try {
      const shown = await run(['slot'], env);
      expect([shown.code, shown.stdout]).toEqual([
        0,
        expect.stringMatching(new RegExp(`^slot +${slot} \\(pgoutput, database ${database.name}\\)$`, 'm')),
      ]);
      expect(shown.stdout).toMatch(/^in use by +PostgreSQL process \d+$/m);
      expect(await run(['slot', 'drop'], env)).toMatchObject({
        code: 1,
        stdout: '',
        stderr: expect.stringMatching(/^Slot \S+ is in use by a server .* Stop that server first\.$/m),
      });
      await sql(database.url, 'CREATE TABLE notes (id int PRIMARY KEY)');
      await subscribe(server, 'notes', { table: 'notes' });
      const cursor = (await join(server, 'notes', 'ada')).all('system', 'connected')[0]?.payload.cursor;
      await server.stop();
      await sql(database.url, 'INSERT INTO notes VALUES (1)');
      expect((await run(['slot', 'reset'], env)).stdout).toContain(
        'was recreated at the current WAL position',
      );
      server = await start();
      const query = `cursor=${encodeURIComponent(cursor ?? '')}`;
      const returning = await join(server, 'notes', 'ada', { query });
      expect((await returning.next('system', 'gap')).payload).toMatchObject({ scope: 'changes' });
      await sql(database.url, 'INSERT INTO notes VALUES (2)');
      expect((await returning.next('database_change')).payload.change.new_record).toEqual({ id: 2 });
      await server.stop();
      expect((await run(['slot', 'drop'], env)).stdout).toBe(`Slot ${slot} was dropped.\n`);
      expect((await run(['slot', 'show'], env)).stdout).toBe(`Slot ${slot} does not exist.\n`);
      expect(await sql(database.url, 'SELECT FROM realtime.streams')).toEqual([]);
    } finally {
      await server.stop();
      await database.drop();
    }
  });

  test('refuses an unknown action and lists the three that exist', async () => {
    expect(await run(['slot', 'eat'], {})).toMatchObject({
      code: 2,
      stdout: '',
      stderr: expect.stringMatching(/^Unknown action "eat"\. The actions are show, reset, drop\.$/m),
    });
  });
});
