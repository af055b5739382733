import type { Sql } from '../sql/sql.js';
import { HEARTBEAT_PREFIX } from './wal-receiver.js';

/** What the log grows by through our own writes between two heartbeats, at most, in bytes. */
const OWN_BYTES = 16 * 1024;

/**
 * A small transaction of our own that goes through the log while others write to it: it moves a slot on whose own
 * tables are idle, and shows how long the way takes.
 */
export class Heartbeat {
  readonly #sql: Sql;
  readonly #intervalMs: number;
  #timer: NodeJS.Timeout | undefined;
  #lastEnd = 0;
  lagSeconds = 0;

  constructor(sql: Sql, intervalMs: number) {
    this.#sql = sql;
    this.#intervalMs = intervalMs;
  }

  start(): void {
    this.#timer = setInterval(() => void this.beat(), this.#intervalMs);
    void this.beat();
  }

  stop(): void {
    clearInterval(this.#timer);
  }

  /** One of ours came through the log. */
  arrived(content: string): void {
    const sent = Number(content);
    if (Number.isFinite(sent)) this.lagSeconds = Math.max(0, (Date.now() - sent) / 1000);
  }

  /** Looks at the log, and sends one when others have written to it. A database that is away is the stream's matter. */
  async beat(): Promise<void> {
    try {
      const [seen] = await this.#sql.query<{ end: number }>(
        `SELECT (pg_current_wal_insert_lsn() - '0/0')::float8 AS end`,
      );
      if (seen === undefined) return;
      if (seen.end - this.#lastEnd <= OWN_BYTES) return;
      const [sent] = await this.#sql.query<{ end: number }>(
        `SELECT (pg_logical_emit_message(true, $1, $2) - '0/0')::float8 AS end`,
        [HEARTBEAT_PREFIX, String(Date.now())],
      );
      this.#lastEnd = sent?.end ?? seen.end;
    } catch {
      // It is asked again at the next beat.
    }
  }
}
