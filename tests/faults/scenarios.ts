import { describe, expect, test } from 'vitest';
import { eventually } from '../support/eventually.js';
import { type Cell, type ChangeSource, cells } from '../support/matrix.js';
import { FaultRun, type FaultRunOptions, type Outcome } from './fault-run.js';
import { report } from './report.js';
import { IS_FULL, SEED, timeoutOf, times } from './scale.js';

const MINUTE = 60_000;

interface Scenario {
  readonly id: string;
  readonly what: string;
  readonly options?: Partial<FaultRunOptions>;
  /** Absent when the fault concerns logical decoding only. `full form`: not in `npm test`. */
  readonly alsoWithTriggers?: true | 'full form';
  readonly faults: (run: FaultRun) => Promise<void>;
  /** Whether clients may get gap messages. */
  readonly mayGap?: boolean;
}

const SCENARIOS: readonly Scenario[] = [
  {
    id: 'T01',
    alsoWithTriggers: true,
    what: 'the server is killed at random moments, and clients disconnect at random',
    options: { disconnectEvery: 400 },
    faults: (run) =>
      times(2, async () => {
        await run.commits(20 + run.random.below(200));
        await run.killServer();
      }),
  },
  {
    id: 'T03',
    alsoWithTriggers: true,
    what: 'PostgreSQL is killed, and shut down in fast and in immediate mode',
    faults: (run) =>
      times(1, async () => {
        for (const signal of ['SIGKILL', 'SIGINT', 'SIGQUIT'] as const) {
          await run.commits(50);
          await run.signalPostgres(signal);
          await eventually(() => run.streaming(), 30_000);
        }
      }),
  },
  {
    id: 'T04',
    alsoWithTriggers: true,
    what: 'the connection that delivers row changes to the server is terminated repeatedly',
    faults: (run) =>
      times(4, async () => {
        await run.commits(5 + run.random.below(30));
        await run.sql(
          `SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name ~ 'goforward-realtime (replication|outbox)'`,
        );
      }),
  },
  {
    id: 'T43',
    alsoWithTriggers: true,
    what: 'the network between the server and PostgreSQL is cut, also after only a few bytes',
    faults: (run) =>
      times(3, async (n) => {
        await run.commits(10 + run.random.below(50));
        if (n % 2 === 0) {
          await run.proxy.close();
          await run.proxy.open();
        } else run.proxy.cutAfter(run.random.below(4_000));
        await eventually(() => run.streaming(), 30_000);
      }),
  },
  {
    id: 'T07',
    what: 'PostgreSQL removes WAL that the replication slot still needs while the server is suspended',
    mayGap: true,
    faults: async (run) => {
      await run.commits(20);
      // A suspended server cannot acknowledge the WAL that PostgreSQL is going to remove.
      process.kill(run.serverPid, 'SIGSTOP');
      try {
        await run.sql('SELECT pg_terminate_backend(active_pid) FROM pg_replication_slots WHERE active');
        await run.sql('CREATE TABLE filling (t text)');
        await run.sql(`INSERT INTO filling SELECT repeat('x', 2000) FROM generate_series(1, 20000)`);
        await eventually(async () => {
          // The checker's own slot advances, so that PostgreSQL does not invalidate it with the server's.
          for (const statement of ['SELECT pg_switch_wal()', 'CHECKPOINT']) await run.sql(statement);
          await run.truth.changes();
          const [behind] = await run.sql<{ bytes: number }>(
            `SELECT (pg_current_wal_lsn() - restart_lsn)::float8 AS bytes FROM pg_replication_slots WHERE slot_name = 'truth'`,
          );
          if (behind === undefined || behind.bytes > 16_000_000)
            throw new Error("the checker's slot is behind");
        }, 30_000);
        await run.sql('ALTER SYSTEM SET max_slot_wal_keep_size = 1');
        await run.sql('SELECT pg_reload_conf()');
        await eventually(async () => {
          await run.sql('CHECKPOINT');
          const lost = await run.sql(
            `SELECT FROM pg_replication_slots WHERE slot_name = 'realtime_slot' AND wal_status = 'lost'`,
          );
          if (lost.length === 0) throw new Error('the slot has not lost WAL yet');
        }, 30_000);
        await run.sql('ALTER SYSTEM RESET max_slot_wal_keep_size');
        await run.sql('SELECT pg_reload_conf()');
      } finally {
        process.kill(run.serverPid, 'SIGCONT');
      }
      await recoveredWithGap(run);
    },
  },
  {
    id: 'T08',
    what: 'another client drops, recreates and advances the replication slot',
    mayGap: true,
    faults: (run) =>
      times(1, async () => {
        for (const change of [
          `SELECT pg_drop_replication_slot('realtime_slot')`,
          `SELECT pg_drop_replication_slot('realtime_slot'), pg_create_logical_replication_slot('realtime_slot', 'pgoutput')`,
          `SELECT pg_replication_slot_advance('realtime_slot', pg_current_wal_lsn())`,
        ]) {
          await run.commits(50);
          // The server reconnects within moments: repeat both statements until they succeed together.
          await eventually(async () => {
            await run.sql(
              `SELECT pg_terminate_backend(active_pid, 5000) FROM pg_replication_slots WHERE slot_name = 'realtime_slot' AND active`,
            );
            await run.sql(change);
          }, 30_000);
          await recoveredWithGap(run);
        }
      }),
  },
  {
    id: 'T13',
    alsoWithTriggers: 'full form',
    what: 'rows are written by bulk inserts, within savepoints and in two-phase commits',
    faults: async (run) => {
      await run.sql('ALTER SYSTEM SET max_prepared_transactions = 10');
      await run.signalPostgres('SIGINT');
      await eventually(() => run.streaming(), 30_000);
      await times(10, async (n) => {
        const user = run.users[n % run.users.length] ?? '';
        const row = (seq: number) => `(100, ${10 * n + seq}, '${user}', 'a row')`;
        await run.sql(`
          BEGIN; INSERT INTO ledger VALUES ${row(1)}; SAVEPOINT a; INSERT INTO ledger VALUES ${row(2)}; ROLLBACK TO a;
          INSERT INTO ledger VALUES ${row(3)}; SAVEPOINT b; INSERT INTO ledger VALUES ${row(4)}; RELEASE b; COMMIT`);
        await run.sql(`BEGIN; INSERT INTO ledger VALUES ${row(5)}; PREPARE TRANSACTION 'kept'`);
        await run.sql(`BEGIN; INSERT INTO ledger VALUES ${row(6)}; PREPARE TRANSACTION 'not kept'`);
        await run.commits(3);
        await run.sql(`ROLLBACK PREPARED 'not kept'`);
        await run.sql(`COMMIT PREPARED 'kept'`);
        // As with COPY, many rows share one WAL position.
        await run.sql(
          `INSERT INTO ledger SELECT 101, ${n * 1000} + s, '${user}', 'many' FROM generate_series(1, 700) s`,
        );
      });
    },
  },
  {
    id: 'T29',
    alsoWithTriggers: 'full form',
    what: 'the server is suspended, a second server takes over, and the first one continues',
    faults: async (run) => {
      await run.startFollower();
      await run.commits(50);
      process.kill(run.serverPid, 'SIGSTOP');
      try {
        run.switchOver();
        const ms = await run.takeover();
        expect(ms).toBeLessThan(15_000);
        await run.commits(50);
      } finally {
        process.kill(run.serverPid, 'SIGCONT');
      }
      await run.commits(100);
    },
  },
  {
    id: 'S1',
    alsoWithTriggers: 'full form',
    what: 'policies are slow for one user and then for everybody, who follow a quick table in the same channel',
    faults: async (run) => {
      await run.sql(SLOW_POLICY);
      await run.follow('ledger', { table: 'quick_ledger' });
      let written = 0;
      await times(1, async () => {
        for (const slow of [run.users.slice(0, 1), run.users]) {
          await run.sql(`INSERT INTO slow_users SELECT unnest('{${slow.join()}}'::uuid[])`);
          await writeBoth(run, written++);
          await eventually(async () => expect(await run.delayedMembers()).toBeGreaterThan(0), 10_000);
          await run.commits(10);
          await run.sql('TRUNCATE slow_users');
          // The writers go on: members go live again between two batches.
          await eventually(async () => expect(await run.delayedMembers()).toBe(0), 30_000);
          await writeBoth(run, written++);
        }
      });
    },
  },
  {
    id: 'W1',
    what: 'a long transaction makes the slot reach its WAL limit, with REALTIME_WAL_LIMIT_ACTION=drop',
    mayGap: true,
    options: { env: { REALTIME_WAL_LIMIT_ACTION: 'drop' } },
    faults: async (run) => {
      await run.sql(`ALTER SYSTEM SET max_slot_wal_keep_size = '64MB'`);
      await run.sql('SELECT pg_reload_conf()');
      await run.sql('CREATE TABLE filling (t text)');
      await run.commits(20);
      await run.duringOpenTransaction(async () => {
        await eventually(async () => {
          const [slot] = await run.sql<{ share: number; active: boolean }>(
            `SELECT (pg_current_wal_lsn() - restart_lsn)::float8 / (pg_current_wal_lsn() - restart_lsn + safe_wal_size) AS share, active
             FROM pg_replication_slots WHERE slot_name = 'realtime_slot'`,
          );
          if (slot?.active !== true) return;
          // Fill above 95 %, but below the limit: the checker's slot retains as much and must not be
          // invalidated.
          if (slot.share < 0.96)
            await run.sql(`INSERT INTO filling SELECT repeat('x', 1000) FROM generate_series(1, 1000)`);
          throw new Error('the slot is still there');
        }, 60_000);
      });
      await run.truth.changes();
      await run.sql('ALTER SYSTEM RESET max_slot_wal_keep_size');
      await run.sql('SELECT pg_reload_conf()');
      await recoveredWithGap(run);
    },
  },
];

/** An evaluation of the ledger's policy for a slow user takes 150 ms. */
const SLOW_POLICY = `
  CREATE TABLE slow_users (id uuid);
  CREATE FUNCTION take_time() RETURNS boolean LANGUAGE plpgsql STABLE SECURITY DEFINER AS $$ BEGIN
    IF EXISTS (SELECT FROM slow_users WHERE id::text = current_setting('app.current_user_id')) THEN PERFORM pg_sleep(0.15); END IF;
    RETURN true;
  END $$;
  ALTER POLICY own_rows ON ledger USING (user_id = current_setting('app.current_user_id')::uuid AND (SELECT take_time()));
  CREATE TABLE quick_ledger (LIKE ledger INCLUDING ALL); ALTER TABLE quick_ledger ENABLE ROW LEVEL SECURITY;
  CREATE POLICY own_rows ON quick_ledger USING (user_id = current_setting('app.current_user_id')::uuid);`;

/** Changes both tables in one transaction, and in one each. The rows of the quick table are gone after that. */
async function writeBoth(run: FaultRun, n: number): Promise<void> {
  for (const [index, user] of run.users.entries()) {
    const row = `${run.users.length * n + index}, '${user}', 'both'`;
    await run.sql(`
      BEGIN; INSERT INTO quick_ledger VALUES (301, ${row}); INSERT INTO ledger VALUES (300, ${row}); COMMIT;
      DELETE FROM quick_ledger`);
  }
}

/** Waits until row changes are read again and every client has got a gap message, within ten seconds each. */
async function recoveredWithGap(run: FaultRun): Promise<void> {
  await eventually(() => run.streaming(), 10_000);
  await eventually(() => {
    for (const { gaps } of run.clients) if (gaps === 0) throw new Error('a client has not got a gap message');
  }, 10_000);
}

async function runScenario(
  { id, what, options, faults, mayGap = false }: Scenario,
  { postgres, source }: Cell,
): Promise<void> {
  const run = await FaultRun.start({ seed: SEED, postgres, source, ...options });
  let outcome: Outcome;
  try {
    await faults(run);
    await eventually(() => run.streaming(), 30_000);
    await run.commits(20);
    outcome = await run.outcome();
  } finally {
    await run.stop();
  }
  const title = source === 'trigger' ? `trigger source: ${what}` : what;
  report({ id, what: title, postgres, seed: SEED, outcome });
  expect(outcome.violations).toEqual([]);
  expect(outcome.wrongRows).toBe(0);
  if (!mayGap) expect(outcome.gaps).toBe(0);
}

function isWithTriggers({ alsoWithTriggers }: Scenario): boolean {
  return alsoWithTriggers === true || (alsoWithTriggers === 'full form' && IS_FULL);
}

/**
 * Defines a test for every scenario of a change source. `npm test` runs each scenario on one PostgreSQL
 * version: versions alternate between scenarios, and the two sources run a scenario on different versions.
 */
export function describeFaults(source: ChangeSource): void {
  describe(`with the ${source} source, no change is lost, delivered twice or out of order`, () => {
    const scenarios = SCENARIOS.flatMap((scenario, n) => {
      if (source === 'trigger' && !isWithTriggers(scenario)) return [];
      const postgres = (n % 2 === 0) === (source === 'logical') ? 'oldest' : 'newest';
      return cells({ postgres, source })
        .filter((cell) => cell.source === source)
        .map((cell) => ({ ...scenario, cell, postgres: cell.postgres }));
    });
    test.each(scenarios)(
      '$id on the $postgres PostgreSQL: $what',
      (scenario) => runScenario(scenario, scenario.cell),
      timeoutOf(MINUTE),
    );
  });
}
