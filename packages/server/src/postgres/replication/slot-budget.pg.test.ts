import { randomBytes } from 'node:crypto';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { eventually } from '../../../../../tests/support/eventually.js';
import { postgresVersions } from '../../../../../tests/support/matrix.js';
import { type OwnPostgres, startOwnPostgres } from '../../../../../tests/support/own-postgres.js';
import { dropSlot, sql } from '../../../../../tests/support/postgres-database.js';
import { RecordingLog } from '../../../../../tests/support/recording-log.js';
import { silentLog } from '../../lib/log.js';
import { Database } from '../connection/database.js';
import { AcknowledgementDelay } from '../source/acknowledgement-delay.js';
import { SlotBudget, type WalLimitAction } from './slot-budget.js';

const LIMITS = { ms: 60_000, bytes: 1_000_000_000 };

const VERSIONS = postgresVersions('newest', 'oldest');

describe.each(VERSIONS)('the watch over a slot of the %s PostgreSQL', (version) => {
  // A slot retains the WAL of the whole cluster: what other tests write would count.
  let postgres: OwnPostgres | undefined;
  let url: string;
  let database: Database;
  let slot: string;
  let log: RecordingLog;
  let window: AcknowledgementDelay;
  let events: string[];
  let watch: SlotBudget;

  beforeAll(async () => {
    postgres = await startOwnPostgres(version);
    url = postgres.url;
  });
  afterAll(() => postgres?.stop());

  beforeEach(async () => {
    slot = `test_${randomBytes(6).toString('hex')}`;
    await sql(url, `SELECT pg_create_logical_replication_slot('${slot}', 'pgoutput')`);
    await sql(url, 'CREATE PUBLICATION watched; CREATE TABLE filling (t text)');
    database = new Database({
      url: url,
      log: silentLog,
      maxReconnectDelayMs: 100,
      onReady: async () => undefined,
    });
    await database.start();
    log = new RecordingLog();
    window = new AcknowledgementDelay(LIMITS);
    events = [];
  });
  afterEach(async () => {
    watch.stop();
    await database.stop();
    await dropSlot(url, slot);
    await sql(url, 'DROP TABLE filling; DROP PUBLICATION IF EXISTS watched');
  });

  async function begin(budgetBytes: number, action: WalLimitAction = 'keep'): Promise<void> {
    const [row] = await sql<{ oid: number }>(url, 'SELECT oid::int FROM pg_publication');
    watch = new SlotBudget({
      sql: database,
      slot,
      publication: { name: 'watched', oid: row?.oid ?? 0 },
      window,
      budgetBytes,
      action,
      log,
      onOverflow: () => events.push('overflow'),
      onPublicationGone: () => events.push('gone'),
    });
    watch.start();
    await eventually(() => expect(watch.retainedBytes).toBeGreaterThan(0));
  }

  /** Writes about `bytes` bytes of WAL and has the watch check the slot. */
  async function fill(bytes: number): Promise<void> {
    await sql(
      url,
      `INSERT INTO filling SELECT repeat('x', 1000) FROM generate_series(1, ${Math.ceil(bytes / 1_060)})`,
    );
    await watch.check();
  }

  it('warns at 50 % of the budget, reduces the resume window to nothing at 80 %, and logs an error at 95 %', async () => {
    await begin(40_000_000);
    expect(log.warnings).toEqual([]);
    expect(watch.xminAge).toBeGreaterThan(0);
    await fill(22_000_000);
    expect(log.warnings).toEqual([expect.stringContaining('more than half')]);
    expect(window.limits).toEqual(LIMITS);
    await fill(12_000_000);
    expect(log.warnings).toEqual([expect.any(String), expect.stringContaining('more than 80 %')]);
    expect(window.limits).toEqual({ ms: 0, bytes: 0 });
    await fill(8_000_000);
    expect(log.errors).toEqual([expect.stringContaining('nearly used up its WAL budget')]);
    expect(events).toEqual([]);
  });

  it('logs the status of the slot once and not at every check', async () => {
    await begin(40_000_000);
    await watch.check();
    expect(log.infos).toEqual([
      expect.stringMatching(
        /^Replication slot status .*"retainedBytes":\d+,"budgetBytes":40000000,"xminAge":\d+/,
      ),
    ]);
  });

  it('reports an overflow when its action is drop', async () => {
    await begin(1_000, 'drop');
    await watch.check();
    expect(events).toEqual(['overflow']);
  });

  it('detects that the publication was dropped or recreated', async () => {
    await begin(40_000_000_000);
    await sql(url, 'DROP PUBLICATION watched');
    await watch.check();
    await sql(url, 'CREATE PUBLICATION watched');
    await watch.check();
    expect(events).toEqual(['gone', 'gone']);
  });
});
