import { describe, expect, test } from 'vitest';
import { eventually } from '../support/eventually.js';
import { type Cell, type ChangeSource, cells } from '../support/matrix.js';
import { FaultRun, type FaultRunOptions, type Outcome } from './fault-run.js';
import { report } from './report.js';
import { patienceOf, SEED, times } from './scale.js';

const MINUTE = 60_000;

interface Scenario {
  readonly id: string;
  readonly what: string;
  readonly options?: Partial<FaultRunOptions>;
  /** Missing: it is about logical decoding alone. */
  readonly alsoByTriggers?: true;
  readonly faults: (run: FaultRun) => Promise<void>;
  /** Whether clients may be told of a gap. */
  readonly mayGap?: boolean;
}

const SCENARIOS: readonly Scenario[] = [
  {
    id: 'T01',
    alsoByTriggers: true,
    what: 'the server is killed at random moments, clients die by themselves',
    options: { diesEvery: 400 },
    faults: (run) =>
      times(2, async () => {
        await run.commits(20 + run.random.below(200));
        await run.killServer();
      }),
  },
  {
    id: 'T03',
    alsoByTriggers: true,
    what: 'PostgreSQL is killed, stopped fast and stopped at once',
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
    alsoByTriggers: true,
    what: 'the connection that sends changes is ended again and again',
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
    alsoByTriggers: true,
    what: 'the network between the server and PostgreSQL is cut, also after a few bytes',
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
    what: 'the slot loses WAL that it needs while nobody reads it',
    mayGap: true,
    faults: async (run) => {
      await run.commits(20);
      // The server stands still, and cannot acknowledge what PostgreSQL throws away.
      process.kill(run.serverPid, 'SIGSTOP');
      try {
        await run.sql('SELECT pg_terminate_backend(active_pid) FROM pg_replication_slots WHERE active');
        await run.sql('CREATE TABLE filling (t text)');
        await run.sql(`INSERT INTO filling SELECT repeat('x', 2000) FROM generate_series(1, 20000)`);
        await eventually(async () => {
          // The slot of the truth goes on, and is not lost with the other one.
          for (const statement of ['SELECT pg_switch_wal()', 'CHECKPOINT']) await run.sql(statement);
          await run.truth.changes();
          const [behind] = await run.sql<{ bytes: number }>(
            `SELECT (pg_current_wal_lsn() - restart_lsn)::float8 AS bytes FROM pg_replication_slots WHERE slot_name = 'truth'`,
          );
          if (behind === undefined || behind.bytes > 16_000_000) throw new Error('the truth is behind');
        }, 30_000);
        await run.sql('ALTER SYSTEM SET max_slot_wal_keep_size = 1');
        await run.sql('SELECT pg_reload_conf()');
        await eventually(async () => {
          await run.sql('CHECKPOINT');
          const lost = await run.sql(
            `SELECT FROM pg_replication_slots WHERE slot_name = 'realtime_slot' AND wal_status = 'lost'`,
          );
          if (lost.length === 0) throw new Error('the slot has not lost anything yet');
        }, 30_000);
        await run.sql('ALTER SYSTEM RESET max_slot_wal_keep_size');
        await run.sql('SELECT pg_reload_conf()');
      } finally {
        process.kill(run.serverPid, 'SIGCONT');
      }
      await healed(run);
    },
  },
  {
    id: 'T08',
    what: 'the slot is dropped, made anew and moved on by somebody else',
    mayGap: true,
    faults: (run) =>
      times(1, async () => {
        for (const change of [
          `SELECT pg_drop_replication_slot('realtime_slot')`,
          `SELECT pg_drop_replication_slot('realtime_slot'), pg_create_logical_replication_slot('realtime_slot', 'pgoutput')`,
          `SELECT pg_replication_slot_advance('realtime_slot', pg_current_wal_lsn())`,
        ]) {
          await run.commits(50);
          // The server is back before long, so that both are done in one go.
          await eventually(async () => {
            await run.sql(
              `SELECT pg_terminate_backend(active_pid, 5000) FROM pg_replication_slots WHERE slot_name = 'realtime_slot' AND active`,
            );
            await run.sql(change);
          }, 30_000);
          await healed(run);
        }
      }),
  },
  {
    id: 'T13',
    alsoByTriggers: true,
    what: 'rows come by COPY, in savepoints and in two-phase commits',
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
        // As COPY does: many rows with one place in the log.
        await run.sql(
          `INSERT INTO ledger SELECT 101, ${n * 1000} + s, '${user}', 'many' FROM generate_series(1, 700) s`,
        );
      });
    },
  },
  {
    id: 'T29',
    alsoByTriggers: true,
    what: 'the server stands still, another one takes over, and it goes on',
    faults: async (run) => {
      await run.startFollower();
      await run.commits(50);
      process.kill(run.serverPid, 'SIGSTOP');
      try {
        run.switchOver();
        const ms = await run.takenOver();
        expect(ms).toBeLessThan(15_000);
        await run.commits(50);
      } finally {
        process.kill(run.serverPid, 'SIGCONT');
      }
      await run.commits(100);
    },
  },
  {
    id: 'W1',
    what: 'a transaction that stays open makes the slot keep all that it may, and REALTIME_WAL_LIMIT_ACTION is drop',
    mayGap: true,
    options: { env: { REALTIME_WAL_LIMIT_ACTION: 'drop' } },
    faults: async (run) => {
      await run.sql(`ALTER SYSTEM SET max_slot_wal_keep_size = '64MB'`);
      await run.sql('SELECT pg_reload_conf()');
      await run.sql('CREATE TABLE filling (t text)');
      await run.commits(20);
      await run.whileOpen(async () => {
        await eventually(async () => {
          const [slot] = await run.sql<{ share: number; active: boolean }>(
            `SELECT (pg_current_wal_lsn() - restart_lsn)::float8 / (pg_current_wal_lsn() - restart_lsn + safe_wal_size) AS share, active
             FROM pg_replication_slots WHERE slot_name = 'realtime_slot'`,
          );
          if (slot?.active !== true) return;
          // More than 95 %, and less than all of it: the slot of the truth keeps as much.
          if (slot.share < 0.96)
            await run.sql(`INSERT INTO filling SELECT repeat('x', 1000) FROM generate_series(1, 1000)`);
          throw new Error('the slot is still there');
        }, 60_000);
      });
      await run.truth.changes();
      await run.sql('ALTER SYSTEM RESET max_slot_wal_keep_size');
      await run.sql('SELECT pg_reload_conf()');
      await healed(run);
    },
  },
];

/** Row changes are read again within ten seconds, and every client was told of what it missed. */
async function healed(run: FaultRun): Promise<void> {
  await eventually(() => run.streaming(), 10_000);
  await eventually(() => {
    for (const { gaps } of run.clients) if (gaps === 0) throw new Error('a client was not told of the gap');
  }, 10_000);
}

async function prove(
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
  report({ id, what: source === 'trigger' ? `by triggers: ${what}` : what, postgres, seed: SEED, outcome });
  expect(outcome.violations).toEqual([]);
  expect(outcome.wrongRows).toBe(0);
  if (!mayGap) expect(outcome.gaps).toBe(0);
}

/**
 * Runs every scenario that there is for a source of row changes. `npm test` does so on one PostgreSQL each: scenarios take
 * turns, and one that runs on the oldest with the one source runs on the newest with the other.
 */
export function describeFaults(source: ChangeSource): void {
  describe(`by the ${source} source, nothing is lost, doubled or out of order`, () => {
    const scenarios = SCENARIOS.flatMap((scenario, n) => {
      if (source === 'trigger' && scenario.alsoByTriggers !== true) return [];
      const postgres = (n % 2 === 0) === (source === 'logical') ? 'oldest' : 'newest';
      return cells({ postgres, source })
        .filter((cell) => cell.source === source)
        .map((cell) => ({ ...scenario, cell, postgres: cell.postgres }));
    });
    test.each(scenarios)(
      '$id on the $postgres PostgreSQL: $what',
      (scenario) => prove(scenario, scenario.cell),
      patienceOf(MINUTE),
    );
  });
}
