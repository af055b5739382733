import { once } from 'node:events';
import pg from 'pg';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { postgresVersions } from '../support/matrix.js';
import { ADA, run, subscribe } from '../support/row-changes.js';
import { join, type TestClient } from '../support/test-client.js';
import { startRowChangeServer, type TestServer } from '../support/test-server.js';

/**
 * Statements that alter the table while it is written to. Each has the columns of the writer's rows from then on,
 * without `n`, and their values.
 */
const STEPS: readonly (readonly [ddl: string, columns: Readonly<Record<string, unknown>>])[] = [
  [`ALTER TABLE ledger ADD COLUMN note text DEFAULT 'none'`, { amount: 1, note: 'none' }],
  ['ALTER TABLE ledger ALTER COLUMN amount TYPE bigint', { amount: 1, note: 'none' }],
  ['ALTER TABLE ledger RENAME COLUMN note TO remark', { amount: 1, remark: 'none' }],
  ['ALTER TABLE ledger ALTER COLUMN amount TYPE text USING amount::text', { amount: '1', remark: 'none' }],
  ['ALTER TABLE ledger DROP COLUMN remark', { amount: '1' }],
  [
    'ALTER TABLE ledger ADD COLUMN remark boolean DEFAULT true; ALTER TABLE ledger RENAME COLUMN amount TO price',
    { price: '1', remark: true },
  ],
  ['ALTER TABLE ledger ADD COLUMN g int GENERATED ALWAYS AS (n + 1) STORED', { price: '1', remark: true }],
  [
    'ALTER TABLE ledger ENABLE ROW LEVEL SECURITY; CREATE POLICY every ON ledger USING (n > 0)',
    { price: '1', remark: true },
  ],
  ['ALTER POLICY every ON ledger USING (n > 0 AND remark)', { price: '1', remark: true }],
  ['ALTER TABLE ledger REPLICA IDENTITY USING INDEX ledger_pkey', { price: '1', remark: true }],
  ['ALTER TABLE ledger REPLICA IDENTITY FULL', { price: '1', remark: true }],
  ['VACUUM FULL ledger', { price: '1', remark: true }],
];
/** Minimum number of rows written between two steps. */
const ROWS_BETWEEN_STEPS = 40;

const VERSIONS = postgresVersions('oldest');

describe.each(VERSIONS)('while rows are written on the %s PostgreSQL', (postgres) => {
  let server: TestServer;
  beforeEach(async () => {
    server = await startRowChangeServer({}, { postgres });
  });
  afterEach(() => server.stop());

  test('altering a table in many ways loses no row, repeats none and sends none under a wrong name', async () => {
    await run(server, 'CREATE TABLE ledger (n int PRIMARY KEY, amount int DEFAULT 1)');
    await subscribe(server, 'ledger', { table: 'ledger' });
    const ada = await join(server, 'ledger', ADA);
    const writer = await Writer.start(server, 'INSERT INTO ledger (n) VALUES ($1)');
    const client = new pg.Client({ connectionString: server.databaseUrl });
    await client.connect();
    /** For each step, the last row that was certainly written before it, and the first one certainly after it. */
    const marks: { before: number; after: number }[] = [];
    try {
      await writer.reach(ROWS_BETWEEN_STEPS);
      for (const [ddl] of STEPS) {
        const before = writer.written;
        await client.query(ddl);
        const after = writer.begun + 1;
        marks.push({ before, after });
        await writer.reach(after + ROWS_BETWEEN_STEPS);
      }
    } finally {
      await writer.stop();
      await client.end();
    }

    const states = [{ amount: 1 }, ...STEPS.map(([, columns]) => columns)];
    for (let n = 1; n <= writer.written; n++) {
      const { payload } = await ada.next('database_change');
      const { n: number, ...columns } = payload.change.new_record ?? {};
      expect(number).toBe(n);
      // A row between the two marks of a step has the columns from before or after it.
      const first = marks.filter(({ after }) => after <= n).length;
      const last = marks.filter(({ before }) => before < n).length;
      const matches = (state: Readonly<Record<string, unknown>>) =>
        Object.entries(columns).every(([name, value]) => state[name] === value) &&
        Object.keys(state).every((name) => name in columns || isRemovedAfter(name, first));
      expect(states.slice(first, last + 1).some(matches), `row ${n}: ${JSON.stringify(columns)}`).toBe(true);
    }
  });

  test('a table is renamed, moved, truncated, dropped and recreated: its members receive each change, other tables keep streaming', async () => {
    await run(
      server,
      'CREATE TABLE ledger (n int PRIMARY KEY); CREATE TABLE other (n int PRIMARY KEY); CREATE SCHEMA archive',
    );
    await subscribe(server, 'ledger', { table: 'ledger' });
    await subscribe(server, 'other', { table: 'other' });
    const ada = await join(server, 'ledger', ADA);
    const bystander = await join(server, 'other', ADA);
    const writer = await Writer.start(server, 'INSERT INTO other VALUES ($1)');
    try {
      await run(server, 'INSERT INTO ledger VALUES (1)');
      expect(await nextRecord(ada)).toEqual(['INSERT.ledger', { n: 1 }]);
      await run(server, 'TRUNCATE ledger');
      expect(await nextRecord(ada)).toEqual(['TRUNCATE.ledger', undefined]);
      // A subscription follows the table, not its name.
      await run(server, 'ALTER TABLE ledger RENAME TO book');
      await run(server, 'INSERT INTO book VALUES (2)');
      expect(await nextRecord(ada)).toEqual(['INSERT.book', { n: 2 }]);
      await run(
        server,
        'ALTER TABLE book SET SCHEMA archive; GRANT USAGE ON SCHEMA archive TO realtime_subscriber',
      );
      await run(server, 'INSERT INTO archive.book VALUES (3)');
      expect(await nextRecord(ada)).toEqual(['INSERT.book', { n: 3 }]);
      await run(server, 'ALTER TABLE archive.book SET SCHEMA public; ALTER TABLE book RENAME TO ledger');

      await run(server, 'INSERT INTO ledger VALUES (4); DROP TABLE ledger');
      await run(server, 'CREATE TABLE ledger (word text)');
      await run(server, `INSERT INTO ledger VALUES ('not enabled')`);
      await subscribe(server, 'ledger', { table: 'ledger' });
      await run(server, `INSERT INTO ledger VALUES ('enabled')`);
      // The last row of the dropped table may be missing: nobody's privileges on it can be checked any more.
      let last = await nextRecord(ada);
      if (JSON.stringify(last[1]) === '{"n":4}') last = await nextRecord(ada);
      expect(last).toEqual(['INSERT.ledger', { word: 'enabled' }]);
      await writer.reach(writer.written + ROWS_BETWEEN_STEPS);
    } finally {
      await writer.stop();
    }
    for (let n = 1; n <= writer.written; n++)
      expect(await nextRecord(bystander)).toEqual(['INSERT.other', { n }]);
  });
});

/**
 * Returns whether a later step removes the column. A column that no longer exists when a row is processed is left
 * out, because no role has a privilege on it.
 */
function isRemovedAfter(name: string, step: number): boolean {
  return STEPS.slice(step).some(([, columns]) => !(name in columns));
}

async function nextRecord(member: TestClient): Promise<[string, unknown]> {
  const { event, payload } = await member.next('database_change');
  return [event, payload.change.new_record ?? undefined];
}

/** Writes rows numbered from 1, one after the other, each in a transaction of its own. */
class Writer {
  readonly #client: pg.Client;
  readonly #statement: string;
  readonly #events = new EventTarget();
  #isStopping = false;
  #running: Promise<void> = Promise.resolve();
  begun = 0;
  written = 0;

  static async start(server: TestServer, statement: string): Promise<Writer> {
    const client = new pg.Client({ connectionString: server.databaseUrl });
    await client.connect();
    const writer = new Writer(client, statement);
    writer.#running = writer.#run();
    return writer;
  }

  private constructor(client: pg.Client, statement: string) {
    this.#client = client;
    this.#statement = statement;
  }

  async reach(count: number): Promise<void> {
    while (this.written < count) await once(this.#events, 'row');
  }

  async stop(): Promise<void> {
    this.#isStopping = true;
    await this.#running;
    await this.#client.end();
  }

  async #run(): Promise<void> {
    while (!this.#isStopping) {
      this.begun += 1;
      await this.#client.query(this.#statement, [this.begun]);
      this.written = this.begun;
      this.#events.dispatchEvent(new Event('row'));
    }
  }
}
