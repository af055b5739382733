import type { Sql } from '../sql/sql.js';
import type { ReplicationConnection } from './replication-connection.js';

export interface LivenessParts {
  /** By another connection than the one that is looked at. */
  readonly sql: Sql;
  readonly slot: string;
  readonly connection: ReplicationConnection;
  /** Nothing is read at the moment, so that silence means nothing. */
  readonly isPaused: () => boolean;
  /** A silence of so long is looked into, in ms. */
  readonly silenceMs: number;
  readonly onDead: () => void;
}

/**
 * Notices a connection that is dead though nobody has closed it, as when a firewall has forgotten it. Silence alone
 * proves nothing: a WAL sender that decodes a large transaction says nothing for minutes. It is dead when the slot is
 * not in its hands any more, or when PostgreSQL cannot be reached at all.
 */
export class Liveness {
  readonly #parts: LivenessParts;
  #timer: NodeJS.Timeout | undefined;

  constructor(parts: LivenessParts) {
    this.#parts = parts;
  }

  start(): void {
    this.#timer = setInterval(() => void this.#look(), this.#parts.silenceMs / 3);
  }

  stop(): void {
    clearInterval(this.#timer);
    this.#timer = undefined;
  }

  async #look(): Promise<void> {
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
