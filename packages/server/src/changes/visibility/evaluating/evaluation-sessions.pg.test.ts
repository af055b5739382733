import { ProtocolError } from '@goforward/realtime-protocol';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { connectedDatabase } from '../../../../../../tests/support/connected-database.js';
import { eventually } from '../../../../../../tests/support/eventually.js';
import {
  createTestDatabase,
  sql,
  type TestDatabase,
} from '../../../../../../tests/support/postgres-database.js';
import type { Database } from '../../../postgres/connection/database.js';
import { StatementTimeout, TooManyAbandoned } from '../../../postgres/connection/statement-options.js';
import { EvaluationCalls } from './evaluation-calls.js';
import type { EvaluationFunction } from './evaluation-function.js';
import { EvaluationSessions } from './evaluation-sessions.js';
import { SlowEvaluations } from './slow-evaluations.js';

let test: TestDatabase;
let db: Database;
let sessions: EvaluationSessions;

beforeEach(async () => {
  test = await createTestDatabase();
  db = await connectedDatabase(test.url);
  sessions = new EvaluationSessions(() => db.pool('evaluation').openSession('evaluate'), 2, 10_000);
});

afterEach(async () => {
  sessions.close();
  await db.stop();
  await test.drop();
});

/** A function with this body in PL/pgSQL. */
function functionOf(body: string): EvaluationFunction {
  return {
    key: body,
    columns: 'item',
    definition: (name) =>
      `CREATE FUNCTION pg_temp."${name}"() RETURNS TABLE (item int) LANGUAGE plpgsql AS $$ BEGIN ${body} END $$`,
  };
}

const ONE = functionOf('RETURN QUERY SELECT 1;');
/** Catches what cancels it, and goes on. */
const ENDLESS = functionOf(
  'LOOP BEGIN PERFORM pg_sleep(60); EXCEPTION WHEN query_canceled THEN NULL; END; END LOOP;',
);

function evaluationUse() {
  return new Map(db.poolUses()).get('evaluation');
}

describe('evaluation sessions', () => {
  it('go on with the other connection when PostgreSQL cannot interrupt a call', async () => {
    const endless = sessions.call(ENDLESS, [], 100);
    const next = sessions.call(ONE, [], 1_000);
    await expect(endless).rejects.toBeInstanceOf(StatementTimeout);
    expect(await next).toEqual([{ item: 1 }]);
    expect(evaluationUse()).toEqual({ inUse: 2, abandoned: 1 });
    expect(db.state).toEqual({ status: 'up' });
    await sql(
      test.url,
      `SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND wait_event = 'PgSleep'`,
    );
    await eventually(() => expect(evaluationUse()).toEqual({ inUse: 1, abandoned: 0 }));
    expect(db.state).toEqual({ status: 'up' });
  });

  it('give a connection back when it has been idle for ten seconds, and opens one again', async () => {
    expect(await sessions.call(ONE, [], 1_000)).toEqual([{ item: 1 }]);
    vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout'] });
    try {
      await sessions.call(ONE, [], 1_000);
      await vi.advanceTimersByTimeAsync(9_000);
      expect(evaluationUse()?.inUse).toBe(1);
      await vi.advanceTimersByTimeAsync(2_000);
    } finally {
      vi.useRealTimers();
    }
    expect(evaluationUse()?.inUse).toBe(0);
    expect(await sessions.call(ONE, [], 1_000)).toEqual([{ item: 1 }]);
  });
});

describe('evaluation calls', () => {
  const items = ['a', 'b', 'c'].map((key) => ({ key }));

  /** Asks twice; returns the errors of the items. */
  async function askTwice(): Promise<string[]> {
    const calls = new EvaluationCalls(sessions, new SlowEvaluations(() => 0), () => 0);
    const failed: string[] = [];
    const question = {
      callFor: () => ({ evaluation: ONE, values: [] }),
      onRow: () => undefined,
      onError: ({ key }: { key: string }, { sqlstate }: { sqlstate: string }) =>
        failed.push(`${key} ${sqlstate}`),
      onUndecided: () => undefined,
      onSlow: () => undefined,
    };
    await calls.ask(items, question);
    await calls.ask(items, question);
    return failed;
  }

  const FAILED = ['a 57014', 'b 57014', 'c 57014'];

  it('fail the items of a call that could not be interrupted, and do not ask about them again for a while', async () => {
    const call = vi.spyOn(sessions, 'call').mockRejectedValue(new StatementTimeout());
    expect(await askTwice()).toEqual([...FAILED, ...FAILED]);
    expect(call).toHaveBeenCalledTimes(1);
  });

  it('fail the items while the pool refuses, and ask again the next time', async () => {
    const refusal = new ProtocolError('DATABASE_UNAVAILABLE', { cause: new TooManyAbandoned(2) });
    const call = vi
      .spyOn(sessions, 'call')
      .mockRejectedValueOnce(refusal)
      .mockResolvedValue([{ item: 3 }]);
    expect(await askTwice()).toEqual(FAILED);
    expect(call).toHaveBeenCalledTimes(2);
  });
});
