import type { Sql } from '../sql/sql.js';
import type { ReplicationConnection } from './replication-connection.js';

export interface LivenessParts {
  /** Runs statements on another connection than the one that is checked. */
  readonly sql: Sql;
  readonly slot: string;
  readonly connection: ReplicationConnection;
  /** Whether reading is paused, so that silence means nothing. */
  readonly isPaused: () => boolean;
  /** After this much silence the connection is checked, in ms. */
  readonly silenceMs: number;
  readonly onDead: () => void;
}

/**
 * Detects a dead replication connection that was never closed, for example one that a firewall has dropped.
 * Silence alone proves nothing: a WAL sender that decodes a large transaction can be silent for minutes. The
 * connection is dead when its process no longer holds the slot, or when PostgreSQL cannot be reached at all.
 */
export class Liveness {
  readonly #parts: LivenessParts;
  #timer: NodeJS.Timeout | undefined;

  constructor(parts: LivenessParts) {
    this.#parts = parts;
  }

  start(): void {
    this.#timer = setInterval(() => void this.#check(), this.#parts.silenceMs / 3);
  }

  stop(): void {
    clearInterval(this.#timer);
    this.#timer = undefined;
  }

  async #check(): Promise<void> {
    const { connection, isPaused, silenceMs, onDead } = this.#parts;
    if (isPaused() || connection.silentMs < silenceMs) return;
    const holdsSlot = await this.#holdsSlot();
    if (this.#timer !== undefined && !holdsSlot && connection.silentMs >= silenceMs) onDead();
  }

  async #holdsSlot(): Promise<boolean> {
    const { sql, slot, connection } = this.#parts;
    try {
      const rows = await sql.query(
        'SELECT FROM pg_replication_slots WHERE slot_name = $1 AND active_pid = $2',
        [slot, connection.processId],
      );
      return rows.length > 0;
    } catch {
      return false;
    }
  }
}
