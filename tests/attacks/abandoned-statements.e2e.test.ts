import { setTimeout as delay } from 'node:timers/promises';
import { join } from '../support/test-client.js';
import type { Counts } from './support/attack.js';
import { attackTest } from './support/attack-test.js';
import {
  enableSlowTable,
  expectStatementsCancelled,
  SLOW_TABLE,
  slowStatements,
  subscribeMeanwhile,
} from './support/slow-table.js';
import type { Target } from './support/target.js';

/** With `COUNT_MS`, just below the default rate of connections. */
const AT_ONCE = 8;
/** How many statements of one user may run; others may be ending just now. */
const MAX_STATEMENTS = 6;
const COUNT_MS = 200;

attackTest({
  name: 'abandoned-statements',
  what: 'one user connects, starts a slow subscription and is cut off, forty times a second',
  schema: SLOW_TABLE,
  run: attack,
});

async function attack(target: Target, signal: AbortSignal): Promise<Counts> {
  await enableSlowTable(target);
  const token = await target.token('mallory');
  const statements = new RunningStatements();
  const [honest, , ...started] = await Promise.all([
    subscribeMeanwhile(target, signal),
    statements.count(target, signal),
    ...Array.from({ length: AT_ONCE }, () => startAndCut(target, token, statements, signal)),
  ]);
  await expectStatementsCancelled(target);
  if (statements.most > MAX_STATEMENTS) throw new Error(`${statements.most} statements ran at once`);
  return {
    started: started.reduce((sum, each) => sum + each, 0),
    most_statements: statements.most,
    honest_ms: honest.slowestMs,
  };
}

async function startAndCut(
  target: Target,
  token: string,
  statements: RunningStatements,
  signal: AbortSignal,
): Promise<number> {
  let started = 0;
  while (!signal.aborted) {
    const client = await join(target, 'cellar', 'mallory', { token });
    client.send({ type: 'subscribe', event: 'database_changes', payload: { table: 'slow', snapshot: true } });
    await client.settle();
    // Cut while its statement runs or waits for its turn.
    await statements.counted(signal);
    client.socket.terminate();
    await client.closed;
    started += 1;
  }
  return started;
}

/** Counts the statements of all connections together, since asking costs the server's PostgreSQL something. */
class RunningStatements {
  most = 0;
  #waiting: (() => void)[] = [];

  async count(target: Target, signal: AbortSignal): Promise<void> {
    while (!signal.aborted) {
      this.most = Math.max(this.most, await slowStatements(target));
      await delay(COUNT_MS, undefined, { signal }).catch(() => undefined);
      for (const counted of this.#waiting.splice(0)) counted();
    }
  }

  /** Waits for the next count, of which there is none once the signal has aborted. */
  async counted(signal: AbortSignal): Promise<void> {
    if (!signal.aborted) await new Promise<void>((resolve) => this.#waiting.push(resolve));
  }
}
