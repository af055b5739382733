import { setTimeout as delay } from 'node:timers/promises';
import pg from 'pg';
import type { Random } from '../fuzz/random.js';
import { IS_FULL } from './scale.js';

export const LEDGER = `
  CREATE TABLE ledger (writer int, seq int, user_id uuid NOT NULL, filler text, PRIMARY KEY (writer, seq));
  ALTER TABLE ledger ENABLE ROW LEVEL SECURITY;
  CREATE POLICY own_rows ON ledger USING (user_id = current_setting('app.current_user_id')::uuid);`;

/** After a lost connection, in ms. */
const PAUSE_MS = 50;
/**
 * The longest pause between two transactions, in ms. In the full form writers write as fast as they can; in the short one
 * what they wrote while nobody could read would take most of the time to deliver.
 */
const LONGEST_REST_MS = IS_FULL ? 0 : 20;

/**
 * Writes rows with numbers without gaps, in transactions of random sizes, some of which are rolled back; changes and deletes
 * some of its rows. Whether a transaction whose end it did not see was committed is not its matter: PostgreSQL tells.
 */
export class Writer {
  readonly #url: string;
  readonly #number: number;
  readonly #users: readonly string[];
  readonly #random: Random;
  #isStopping = false;
  #running: Promise<void> = Promise.resolve();
  /** Transactions that were surely committed. */
  committed = 0;

  constructor(url: string, number: number, users: readonly string[], random: Random) {
    this.#url = url;
    this.#number = number;
    this.#users = users;
    this.#random = random;
  }

  start(): void {
    this.#running = this.#run();
  }

  async stop(): Promise<void> {
    this.#isStopping = true;
    await this.#running;
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
          if (LONGEST_REST_MS > 0) await delay(this.#random.below(LONGEST_REST_MS));
        }
      } catch {
        await delay(PAUSE_MS);
      } finally {
        await client.end().catch(() => undefined);
      }
    }
  }

  /** Answers the last number that is committed after it. */
  async #transaction(client: pg.Client, seq: number): Promise<number> {
    const random = this.#random;
    const count = random.chance(0.05) ? 200 + random.below(800) : 1 + random.below(5);
    const isKept = !random.chance(0.15);
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
    await client.query(isKept ? 'COMMIT' : 'ROLLBACK');
    if (!isKept) return seq;
    this.committed += 1;
    return seq + count;
  }
}
