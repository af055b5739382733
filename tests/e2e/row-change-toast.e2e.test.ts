import type { RowChange } from '@goforward/realtime-protocol';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { postgresVersions } from '../support/matrix.js';
import { ADA, run, subscribe, takeChanges } from '../support/row-changes.js';
import { join } from '../support/test-client.js';
import { startRowChangeServer, type TestServer } from '../support/test-server.js';

/** Too large for a row and not compressed, so that PostgreSQL stores them out of line (TOAST). */
const A = 'a'.repeat(20_000);
const B = 'ß'.repeat(9_000);

const TABLE = `
  CREATE TABLE documents (id int PRIMARY KEY, code int NOT NULL, title text, body text);
  CREATE UNIQUE INDEX by_code ON documents (code);
  ALTER TABLE documents ALTER COLUMN body SET STORAGE EXTERNAL;`;

/** Statements that run in a transaction of their own each. */
const STATEMENTS = [
  `INSERT INTO documents VALUES (1, 10, 'one', '${A}')`,
  `UPDATE documents SET title = 'two'`,
  `UPDATE documents SET body = '${B}'`,
  'UPDATE documents SET id = 2',
  'UPDATE documents SET code = 20',
  'UPDATE documents SET body = NULL',
  `UPDATE documents SET title = NULL, body = '${A}'`,
  `UPDATE documents SET title = 'three'`,
  'DELETE FROM documents',
];

const VERSIONS = postgresVersions('oldest');

describe.each(VERSIONS)('large values on the %s PostgreSQL', (postgres) => {
  let server: TestServer;
  beforeEach(async () => {
    server = await startRowChangeServer({}, { postgres });
  });
  afterEach(() => server.stop());

  async function changesOf(statements: string, identity: 'keep' | undefined): Promise<RowChange[]> {
    await run(server, TABLE + statements);
    const token = await server.token('root', 'admin');
    const body = identity === undefined ? {} : { identity };
    expect((await server.call('POST', '/realtime/triggers/documents', { token, body })).status).toBe(200);
    await subscribe(server, 'documents', { table: 'documents' });
    const ada = await join(server, 'documents', ADA);
    for (const statement of STATEMENTS) await run(server, statement);
    return takeChanges(ada, STATEMENTS.length);
  }

  const records = (changes: readonly RowChange[]) =>
    changes.map(({ old_record, new_record, unchanged_columns }) => [
      old_record,
      new_record,
      ...(unchanged_columns ?? []),
    ]);

  test('are complete under REPLICA IDENTITY FULL, changed or not', async () => {
    const row = (id: number, code: number, title: string | null, body: string | null) => ({
      id,
      code,
      title,
      body,
    });
    expect(records(await changesOf('', undefined))).toEqual([
      [null, row(1, 10, 'one', A)],
      [row(1, 10, 'one', A), row(1, 10, 'two', A)],
      [row(1, 10, 'two', A), row(1, 10, 'two', B)],
      [row(1, 10, 'two', B), row(2, 10, 'two', B)],
      [row(2, 10, 'two', B), row(2, 20, 'two', B)],
      [row(2, 20, 'two', B), row(2, 20, 'two', null)],
      [row(2, 20, 'two', null), row(2, 20, null, A)],
      [row(2, 20, null, A), row(2, 20, 'three', A)],
      [row(2, 20, 'three', A), null],
    ]);
  });

  test('that did not change are left out and listed when the replica identity is the primary key', async () => {
    expect(records(await changesOf('', 'keep'))).toEqual([
      [null, { id: 1, code: 10, title: 'one', body: A }],
      [null, { id: 1, code: 10, title: 'two' }, 'body'],
      [null, { id: 1, code: 10, title: 'two', body: B }],
      [{ id: 1 }, { id: 2, code: 10, title: 'two' }, 'body'],
      [null, { id: 2, code: 20, title: 'two' }, 'body'],
      [null, { id: 2, code: 20, title: 'two', body: null }],
      [null, { id: 2, code: 20, title: null, body: A }],
      [null, { id: 2, code: 20, title: 'three' }, 'body'],
      [{ id: 2 }, null],
    ]);
  });

  test('that did not change are left out and listed when the replica identity is an index', async () => {
    const identity = 'ALTER TABLE documents REPLICA IDENTITY USING INDEX by_code;';
    expect(records(await changesOf(identity, 'keep'))).toEqual([
      [null, { id: 1, code: 10, title: 'one', body: A }],
      [null, { id: 1, code: 10, title: 'two' }, 'body'],
      [null, { id: 1, code: 10, title: 'two', body: B }],
      [null, { id: 2, code: 10, title: 'two' }, 'body'],
      [{ code: 10 }, { id: 2, code: 20, title: 'two' }, 'body'],
      [null, { id: 2, code: 20, title: 'two', body: null }],
      [null, { id: 2, code: 20, title: null, body: A }],
      [null, { id: 2, code: 20, title: 'three' }, 'body'],
      [{ code: 20 }, null],
    ]);
  });

  test('missing from the WAL hide the row when a policy reads them, and REPLICA IDENTITY FULL shows it', async () => {
    const policy = `
      ALTER TABLE documents ENABLE ROW LEVEL SECURITY;
      CREATE POLICY long_ones ON documents USING (length(body) > 10 OR title = 'end');`;
    await run(server, `${TABLE}${policy}`);
    const token = await server.token('root', 'admin');
    await server.call('POST', '/realtime/triggers/documents', { token, body: { identity: 'keep' } });
    await subscribe(server, 'documents', { table: 'documents' });
    const ada = await join(server, 'documents', ADA);
    await run(server, `INSERT INTO documents VALUES (1, 10, 'one', '${A}')`);
    await run(server, `UPDATE documents SET title = 'hidden: the length of its body is unknown'`);
    await run(server, `UPDATE documents SET title = 'known again', body = '${B}'`);
    await run(server, 'DELETE FROM documents');
    await run(server, `INSERT INTO documents VALUES (2, 20, 'end', NULL)`);
    const shown = await takeChanges(ada, 3);
    expect(shown.map(({ event, new_record }) => [event, new_record?.title])).toEqual([
      ['INSERT', 'one'],
      ['UPDATE', 'known again'],
      ['INSERT', 'end'],
    ]);

    await run(server, 'ALTER TABLE documents REPLICA IDENTITY FULL');
    await run(server, `INSERT INTO documents VALUES (3, 30, 'three', '${A}')`);
    await run(server, `UPDATE documents SET title = 'seen' WHERE id = 3`);
    await run(server, 'DELETE FROM documents WHERE id = 3');
    const full = await takeChanges(ada, 3);
    expect(full.map(({ event, old_record }) => [event, old_record?.title])).toEqual([
      ['INSERT', undefined],
      ['UPDATE', 'three'],
      ['DELETE', 'seen'],
    ]);
  });

  test('missing from the WAL do not match a condition that reads them', async () => {
    await run(server, TABLE);
    const token = await server.token('root', 'admin');
    await server.call('POST', '/realtime/triggers/documents', { token, body: { identity: 'keep' } });
    await subscribe(server, 'documents', {
      table: 'documents',
      condition: `body LIKE 'a%' OR title = 'end'`,
    });
    const ada = await join(server, 'documents', ADA);
    for (const statement of STATEMENTS) await run(server, statement);
    await run(server, `INSERT INTO documents VALUES (9, 90, 'end', NULL)`);
    const shown = await takeChanges(ada, 3);
    expect(shown.map(({ event, new_record }) => [event, new_record?.id, new_record?.title])).toEqual([
      ['INSERT', 1, 'one'],
      ['UPDATE', 2, null],
      ['INSERT', 9, 'end'],
    ]);
  });
});
