import { randomBytes } from 'node:crypto';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { eventually } from '../../../../../tests/support/eventually.js';
import { postgresVersions } from '../../../../../tests/support/matrix.js';
import {
  createTestDatabase,
  dropSlot,
  sql,
  type TestDatabase,
} from '../../../../../tests/support/postgres-database.js';
import { PostgresProxy } from '../../../../../tests/support/postgres-proxy.js';
import { silentLog } from '../../lib/log.js';
import { Database } from '../connection/database.js';
import type { ChangeSink, SinkMemo, WalBegin, WalRelation } from '../source/change-source.js';
import { readChange } from './pgoutput.js';
import { ReplicationSource } from './replication-source.js';
import { ensurePublication } from './slot.js';

/** A sink that records every call. It never acknowledges anything. */
class Recorder implements ChangeSink {
  readonly notes: string[] = [];
  lastEnd = 0n;
  #begin: WalBegin | undefined;

  opened({ gap }: { epoch: string; gap?: string }): void {
    this.notes.push(gap === undefined ? 'opened' : `opened with a gap: ${gap}`);
  }

  begin(begin: WalBegin): void {
    this.#begin = begin;
  }

  change(kind: string, relation: WalRelation, bytes: Buffer): void {
    const { old, new: row } = readChange(bytes, relation);
    this.notes.push(`${kind} ${relation.name} ${JSON.stringify([old, row])}`);
  }

  truncate(relations: readonly WalRelation[]): void {
    this.notes.push(`truncate ${relations.map(({ name }) => name).join()}`);
  }

  commit(endLsn: bigint, mayHaveChangedCatalog: boolean): void {
    if (mayHaveChangedCatalog) this.notes.push('the catalog may have changed');
    if (this.#begin === undefined) throw new Error('a commit without a begin');
    this.#begin = undefined;
    this.lastEnd = endLsn;
  }

  message(): void {
    this.notes.push('message');
  }

  closed(): void {
    this.notes.push('closed');
  }

  forget(): SinkMemo {
    return {};
  }
}

const VERSIONS = postgresVersions('newest', 'oldest');

describe.each(VERSIONS)('a replication source on the %s PostgreSQL', (version) => {
  let database: TestDatabase;
  let slot: string;
  let running: (() => Promise<void>)[];

  beforeEach(async () => {
    database = await createTestDatabase(version);
    slot = `test_${randomBytes(6).toString('hex')}`;
    running = [];
  });

  afterEach(async () => {
    for (const stop of running) await stop();
    await dropSlot(database.url, slot);
    await database.drop();
  });

  async function start({ url = database.url, silenceMs }: { url?: string; silenceMs?: number } = {}) {
    const pool = new Database({
      url: database.url,
      log: silentLog,
      maxReconnectDelayMs: 100,
      onReady: async () => undefined,
    });
    await pool.start();
    const source = new ReplicationSource({
      url,
      database: pool,
      slot,
      publication: 'test_publication',
      dbRoles: [],
      enableRls: true,
      heartbeatMs: 60_000,
      window: { ms: 0, bytes: 0 },
      walLimitAction: 'keep',
      maxReconnectDelayMs: 100,
      log: silentLog,
      newEpoch: () => randomBytes(4).toString('hex'),
      ...(silenceMs === undefined ? {} : { silenceMs }),
    });
    const sink = new Recorder();
    source.start(sink);
    const stop = async () => {
      await source.stop();
      await pool.stop();
    };
    running.push(stop);
    return { source, sink, stop };
  }

  const streaming = (source: ReplicationSource) =>
    eventually(() => expect(source.state).toEqual({ status: 'streaming' }), 10_000);

  it('reads the changes of published tables in the order of commits', async () => {
    const { source, sink } = await start();
    await streaming(source);
    await sql(
      database.url,
      `CREATE TABLE notes (id int PRIMARY KEY, content text); ALTER TABLE notes REPLICA IDENTITY FULL;
       ALTER PUBLICATION test_publication ADD TABLE notes`,
    );
    await sql(
      database.url,
      `INSERT INTO notes VALUES (1, 'a'), (2, NULL); UPDATE notes SET content = 'b' WHERE id = 1`,
    );
    await sql(database.url, 'DELETE FROM notes WHERE id = 2');
    await sql(database.url, 'TRUNCATE notes');
    await eventually(() =>
      expect(sink.notes).toEqual([
        'opened',
        'insert notes [null,["1","a"]]',
        'insert notes [null,["2",null]]',
        'update notes [["1","a"],["1","b"]]',
        'delete notes [["2",null],null]',
        'truncate notes',
        'the catalog may have changed',
      ]),
    );
  });

  it.each([
    'CREATE POLICY p ON notes USING (true)',
    'ALTER TABLE notes ENABLE ROW LEVEL SECURITY',
    'GRANT SELECT ON notes TO realtime_subscriber',
    'GRANT SELECT (id) ON notes TO realtime_subscriber',
    'CREATE FUNCTION f() RETURNS int LANGUAGE sql AS $$ SELECT 1 $$',
    'COMMENT ON TABLE notes IS $$the shortest change of the catalog$$',
  ])('tells of a transaction that has changed the catalog after its rows: %s', async (statement) => {
    const { source, sink } = await start();
    await streaming(source);
    await sql(
      database.url,
      'CREATE TABLE notes (id int PRIMARY KEY); ALTER PUBLICATION test_publication ADD TABLE notes',
    );
    // The commit record after a switch of WAL files lies within a page.
    await sql(database.url, 'SELECT pg_switch_wal()');
    await sql(database.url, 'INSERT INTO notes VALUES (1)');
    await sql(database.url, `BEGIN; INSERT INTO notes VALUES (2); ${statement}; COMMIT`);
    await sql(database.url, 'INSERT INTO notes VALUES (3)');
    await eventually(() =>
      expect(sink.notes).toEqual([
        'opened',
        'insert notes [null,["1"]]',
        'insert notes [null,["2"]]',
        'the catalog may have changed',
        'insert notes [null,["3"]]',
      ]),
    );
  });

  it('detects a dead connection that was never closed, and resumes where it was', async () => {
    const proxy = new PostgresProxy(database.url);
    await proxy.open();
    running.unshift(() => proxy.close());
    const { source, sink } = await start({ url: proxy.url, silenceMs: 300 });
    await streaming(source);
    await sql(
      database.url,
      'CREATE TABLE notes (id int PRIMARY KEY); ALTER PUBLICATION test_publication ADD TABLE notes',
    );
    proxy.fallSilent();
    await sql(database.url, 'INSERT INTO notes VALUES (1)');
    // PostgreSQL ends the connection; the proxy does not pass that on either.
    await sql(
      database.url,
      `SELECT pg_terminate_backend(active_pid, 5000) FROM pg_replication_slots WHERE slot_name = '${slot}'`,
    );
    await eventually(() => expect(sink.notes).toContain('closed'));
    await proxy.close();
    await proxy.open();
    await eventually(() =>
      expect(sink.notes).toEqual(['opened', 'closed', 'opened', 'insert notes [null,["1"]]']),
    );
  });

  it('keeps a silent connection while its process holds the slot', async () => {
    const { source, sink } = await start({ silenceMs: 30 });
    await streaming(source);
    const sent = Date.now();
    await eventually(() => expect(Date.now() - sent).toBeGreaterThan(300));
    expect(sink.notes).toEqual(['opened']);
  });

  it('creates a publication that other servers create at the same moment', async () => {
    const pools = Array.from(
      { length: 6 },
      () =>
        new Database({
          url: database.url,
          log: silentLog,
          maxReconnectDelayMs: 100,
          onReady: async () => undefined,
        }),
    );
    await Promise.all(pools.map((pool) => pool.start()));
    running.push(async () => void (await Promise.all(pools.map((pool) => pool.stop()))));
    await Promise.all(pools.map((pool) => ensurePublication(pool, 'Test "publication"')));
    expect(await sql(database.url, 'SELECT pubname FROM pg_publication')).toEqual([
      { pubname: 'Test "publication"' },
    ]);
  });
});
