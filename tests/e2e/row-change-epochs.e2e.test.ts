import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { eventually } from '../support/eventually.js';
import { postgresVersions } from '../support/matrix.js';
import { ADA, nextChange, run, subscribe } from '../support/row-changes.js';
import { join } from '../support/test-client.js';
import { startRowChangeServer, type TestServer } from '../support/test-server.js';

const VERSIONS = postgresVersions('oldest');

describe.each(VERSIONS)('a change epoch on the %s PostgreSQL', (postgres) => {
  let server: TestServer;
  beforeEach(async () => {
    server = await startRowChangeServer({ REALTIME_MAX_RECONNECT_DELAY: '200ms' }, { postgres });
    await run(server, 'CREATE TABLE notes (id int PRIMARY KEY)');
    await subscribe(server, 'notes', { table: 'notes' });
  });
  afterEach(() => server.stop());

  test('ends with a gap when its publication is dropped and recreated, and a new epoch begins', async () => {
    const ada = await join(server, 'notes', ADA);
    await run(server, 'INSERT INTO notes VALUES (1)');
    const before = await ada.next('database_change');
    await run(server, 'DROP PUBLICATION realtime_publication');
    await run(server, 'INSERT INTO notes VALUES (2)');
    // The server may have recreated the publication already.
    await run(
      server,
      `DO $$ BEGIN CREATE PUBLICATION realtime_publication FOR TABLE notes;
       EXCEPTION WHEN duplicate_object OR unique_violation THEN ALTER PUBLICATION realtime_publication ADD TABLE notes; END $$`,
    );
    await run(server, 'INSERT INTO notes VALUES (3)');
    await eventually(() => expect(ada.all('system', 'gap')).toHaveLength(1), 15_000);
    await eventually(async () => {
      const { parts } = (await server.call('GET', '/readyz')).body;
      expect(parts.row_changes).toEqual({ status: 'streaming' });
    }, 10_000);
    await run(server, 'INSERT INTO notes VALUES (4)');
    const after = await ada.next(
      'database_change',
      undefined,
      ({ payload }) => payload.change.new_record?.id === 4,
    );
    const epochOf = (cursor = '') => cursor.split(':')[0];
    expect(epochOf(after.cursor)).not.toBe(epochOf(before.cursor));
    // A client that resumes with a cursor of the old epoch receives a gap too.
    const query = `cursor=${encodeURIComponent(before.cursor ?? '')}`;
    const late = await join(server, 'notes', ADA, { query });
    expect((await late.next('system', 'gap')).payload).toMatchObject({ scope: 'changes' });
    await run(server, 'INSERT INTO notes VALUES (5)');
    expect((await nextChange(late)).new_record).toEqual({ id: 5 });
  });
});
