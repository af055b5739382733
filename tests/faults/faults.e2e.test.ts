import { describe, expect, test } from 'vitest';
import { eventually } from '../support/eventually.js';
import { POSTGRES_VERSIONS } from '../support/postgres-database.js';
import { FaultRun, type FaultRunOptions, type Outcome } from './fault-run.js';
import { report } from './report.js';

/** The seed of all random choices, and how much more is done than in the short form. */
const SEED = Number(process.env.FAULT_SEED ?? 1);
const SCALE = Number(process.env.FAULT_SCALE ?? 1);
const MINUTE = 60_000;

interface Scenario {
  readonly id: string;
  readonly what: string;
  readonly options?: Partial<FaultRunOptions>;
  readonly faults: (run: FaultRun) => Promise<void>;
  /** Whether clients may be told of a gap. */
  readonly mayGap?: boolean;
}

async function times(count: number, work: (n: number) => Promise<void>): Promise<void> {
  for (let n = 0; n < count * SCALE; n++) await work(n);
}

const SCENARIOS: readonly Scenario[] = [
  {
    id: 'T01',
    what: 'the server is killed at random moments, clients die by themselves',
    options: { diesEvery: 400 },
    faults: (run) =>
      times(4, async () => {
        await run.commits(20 + run.random.below(200));
        await run.killServer();
      }),
  },
  {
    id: 'T03',
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
    what: 'the connection that sends changes is ended again and again',
    faults: (run) =>
      times(8, async () => {
        await run.commits(5 + run.random.below(30));
        await run.sql('SELECT pg_terminate_backend(active_pid) FROM pg_replication_slots WHERE active');
      }),
  },
  {
    id: 'T43',
    what: 'the network between the server and PostgreSQL is cut, also after a few bytes',
    faults: (run) =>
      times(6, async (n) => {
        await run.commits(10 + run.random.below(50));
        if (n % 2 === 0) {
          await run.proxy.close();
          await run.proxy.open();
        } else run.proxy.cutAfter(run.random.below(4_000));
        await eventually(() => run.streaming(), 30_000);
      }),
  },
];

describe.each(POSTGRES_VERSIONS)(
  'on the %s PostgreSQL, nothing is lost, doubled or out of order when',
  (postgres) => {
    test.each(SCENARIOS)(
      '$id: $what',
      async ({ id, what, options, faults, mayGap = false }) => {
        const run = await FaultRun.start({ seed: SEED, postgres, ...options });
        let outcome: Outcome;
        try {
          await faults(run);
          await eventually(() => run.streaming(), 30_000);
          await run.commits(20);
          outcome = await run.outcome();
        } finally {
          await run.stop();
        }
        report({ id, what, postgres, seed: SEED, outcome });
        expect(outcome.violations).toEqual([]);
        expect(outcome.wrongRows).toBe(0);
        if (!mayGap) expect(outcome.gaps).toBe(0);
      },
      (1 + 2 * SCALE) * MINUTE,
    );
  },
);
