import { setTimeout as delay } from 'node:timers/promises';
import pg from 'pg';
import type { Random } from '../fuzz/random.js';
import { IS_FULL } from './scale.js';

export const LEDGER = `
  CREATE TABLE ledger (writer int, seq int, user_id uuid NOT NULL, filler text, PRIMARY KEY (writer, seq));
  ALTER TABLE ledger ENABLE ROW LEVEL SECURITY;
  CREATE POLICY own_rows ON ledger USING (user_id = current_setting('app.current_user_id')::uuid);`;

/** Delay before reconnecting, in ms. */
const RECONNECT_DELAY_MS = 50;
/**
 * The longest pause between two transactions, in ms. In the full form writers write as fast as they can. In
 * the short form they pause; otherwise delivering what they wrote during outages would take most of the
 * test's time.
 */
const LONGEST_PAUSE_MS = IS_FULL ? 0 : 40;

/**
 * Writes rows numbered without gaps, in transactions of random sizes, some of which it rolls back. It also
 * updates and deletes some of its rows. After a lost connection it reads from PostgreSQL which of its rows
 * were committed.
 */
export class Writer {
  readonly #url: string;
  readonly #number: number;
  readonly #users: readonly string[];
  readonly #random: Random;
  #isStopping = false;
  #finished: Promise<void> = Promise.resolve();
  /** Transactions whose COMMIT was confirmed. */
  committed = 0;

  constructor(url: string, number: number, users: readonly string[], random: Random) {
    this.#url = url;
    this.#number = number;
    this.#users = users;
    this.#random = random;
  }

  start(): void {
    this.#finished = this.#run();
  }

  async stop(): Promise<void> {
    this.#isStopping = true;
    await this.#finished;
  }

  async #run(): Promise<void> {
    while (!this.#isStopping) {
      const client = new pg.Client({ connectionString: this.#url, connectionTimeoutMillis: 5_000 });
      client.on('error', () => undefined);
      try {
        await client.connect();
        const { rows } = await client.query(
          'SELECT coalesce(max(seq), 0) AS seq FROM ledger WHERE writer = $1',
          [this.#number],
        );
        let seq = Number(rows[0].seq);
        while (!this.#isStopping) {
          seq = await this.#transaction(client, seq);
          if (LONGEST_PAUSE_MS > 0) await delay(this.#random.below(LONGEST_PAUSE_MS));
        }
      } catch {
        await delay(RECONNECT_DELAY_MS);
      } finally {
        await client.end().catch(() => undefined);
      }
    }
  }

  /** Runs one transaction and returns the last committed row number. */
  async #transaction(client: pg.Client, seq: number): Promise<number> {
    const random = this.#random;
    const count = random.chance(0.05) ? 200 + random.below(800) : 1 + random.below(5);
    const isCommitted = !random.chance(0.15);
    await client.query('BEGIN');
    await client.query(
      `INSERT INTO ledger SELECT $1, $2 + n, ($3::uuid[])[1 + ($2 + n) % cardinality($3::uuid[])], 'as it was'
       FROM generate_series(1, $4) n`,
      [this.#number, seq, this.#users, count],
    );
    if (random.chance(0.3))
      await client.query(`UPDATE ledger SET filler = $3 WHERE writer = $1 AND seq = $2`, [
        this.#number,
        1 + random.below(seq + count),
        `changed ${seq}`,
      ]);
    if (random.chance(0.1))
      await client.query('DELETE FROM ledger WHERE writer = $1 AND seq = $2', [this.#number, seq]);
    await client.query(isCommitted ? 'COMMIT' : 'ROLLBACK');
    if (!isCommitted) return seq;
    this.committed += 1;
    return seq + count;
  }
}
