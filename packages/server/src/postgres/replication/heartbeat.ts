import { wallClock } from '../../lib/clock.js';
import type { Sql } from '../sql/sql.js';
import { HEARTBEAT_PREFIX } from './wal-receiver.js';

/** How much WAL the server's own writes produce between two heartbeats, at most, in bytes. */
const OWN_BYTES = 16 * 1024;

/**
 * Writes a small transactional message to the WAL at an interval, while other transactions write WAL. It
 * advances a slot whose published tables are idle, and it measures the lag.
 */
export class Heartbeat {
  readonly #sql: Sql;
  readonly #intervalMs: number;
  #timer: NodeJS.Timeout | undefined;
  #lastEnd = 0;
  /** How long the last heartbeat took from the database through the stream, in seconds. */
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

  /**
   * Computes the lag when a heartbeat has come through the stream. `content`: its time, ms since 1970-01-01
   * UTC.
   */
  arrived(content: string): void {
    const sent = Number(content);
    if (Number.isFinite(sent)) this.lagSeconds = Math.max(0, (wallClock.epochMs() - sent) / 1000);
  }

  /**
   * Sends a heartbeat when the WAL has moved past our own writes. Ignores errors: the stream reports a lost
   * database.
   */
  async beat(): Promise<void> {
    try {
      const [current] = await this.#sql.query<{ end: number }>(
        `SELECT (pg_current_wal_insert_lsn() - '0/0')::float8 AS end`,
      );
      if (current === undefined) return;
      if (current.end - this.#lastEnd <= OWN_BYTES) return;
      const [sent] = await this.#sql.query<{ end: number }>(
        `SELECT (pg_logical_emit_message(true, $1, $2) - '0/0')::float8 AS end`,
        [HEARTBEAT_PREFIX, String(wallClock.epochMs())],
      );
      this.#lastEnd = sent?.end ?? current.end;
    } catch {
      // The next beat tries again.
    }
  }
}
