import type { Log } from '../../lib/log.js';
import type { ResumeWindow, WindowLimits } from '../source/resume-window.js';
import type { Sql } from '../sql/sql.js';

/** What is done when the slot keeps nearly as much log as it may. */
export type WalLimitAction = 'keep' | 'drop';

export interface SlotWatchParts {
  readonly sql: Sql;
  readonly slot: string;
  /** The publication that is read through; another one of its name has another oid. */
  readonly publication: { readonly name: string; readonly oid: number };
  readonly window: ResumeWindow;
  /** How much the slot may keep where PostgreSQL sets no limit, in bytes. */
  readonly budgetBytes: number;
  readonly action: WalLimitAction;
  readonly log: Log;
  /** The slot keeps too much, and is to be given up. */
  readonly onOverflow: () => void;
  /** What is read through has been taken away: changes may be missing from now on. */
  readonly onPublicationGone: () => void;
}

const INTERVAL_MS = 5_000;
/** After how many looks the log says again what the slot costs: an hour. */
const REPORT_EVERY = 720;
/** Shares of what the slot may keep. */
const WARN_AT = 0.5;
const SHRINK_AT = 0.8;
const ACT_AT = 0.95;
const NOTHING: WindowLimits = { ms: 0, bytes: 0 };

interface Seen {
  readonly retained: number;
  /** What PostgreSQL lets it keep in addition; null: without limit. */
  readonly safe: number | null;
  readonly xmin_age: number | null;
  readonly publication: number | null;
}

/**
 * Looks at what the slot keeps: PostgreSQL's disk must not fill in silence. Every hour the log says how much that is;
 * from half of the budget on it warns, from four fifths on nothing is kept for who comes back, and near its end the
 * operator's choice is done.
 */
export class SlotWatch {
  readonly #parts: SlotWatchParts;
  readonly #limits: WindowLimits;
  #timer: NodeJS.Timeout | undefined;
  #level = 0;
  #looks = 0;
  retainedBytes = 0;
  /** Transactions that vacuum is held back by. */
  xminAge = 0;

  constructor(parts: SlotWatchParts) {
    this.#parts = parts;
    this.#limits = parts.window.limits;
  }

  start(): void {
    this.#timer = setInterval(() => void this.look(), INTERVAL_MS);
    void this.look();
  }

  stop(): void {
    clearInterval(this.#timer);
    this.#timer = undefined;
  }

  /** A database that is away is the stream's matter. */
  async look(): Promise<void> {
    const { sql, slot, publication, onPublicationGone } = this.#parts;
    try {
      const [seen] = await sql.query<Seen>(
        `SELECT (pg_current_wal_insert_lsn() - restart_lsn)::float8 AS retained, safe_wal_size::float8 AS safe,
                age(catalog_xmin) AS xmin_age, (SELECT oid FROM pg_publication WHERE pubname = $2) AS publication
         FROM pg_replication_slots WHERE slot_name = $1`,
        [slot, publication.name],
      );
      if (seen === undefined || this.#timer === undefined) return;
      this.retainedBytes = seen.retained;
      this.xminAge = seen.xmin_age ?? 0;
      if (seen.publication !== publication.oid) onPublicationGone();
      else this.#weigh(seen);
    } catch {
      // It is looked at again.
    }
  }

  #weigh({ retained, safe, xmin_age }: Seen): void {
    const { budgetBytes, window, log, slot, action, onOverflow } = this.#parts;
    const budget = safe === null ? budgetBytes : retained + Math.max(0, safe);
    const facts = { slot, retainedBytes: retained, budgetBytes: budget, xminAge: xmin_age };
    if (this.#looks++ % REPORT_EVERY === 0) log.info(facts, 'What the replication slot keeps');
    const share = retained / budget;
    const level = [WARN_AT, SHRINK_AT, ACT_AT].filter((at) => share >= at).length;
    if (level === this.#level) return;
    if (level > this.#level)
      log.warn(
        facts,
        level === 1
          ? 'The replication slot keeps more than half of the log that it may'
          : 'The replication slot keeps nearly all of the log that it may: nothing is kept for clients that come back',
      );
    // Between half and four fifths it stays as it was, so that it does not go to and fro.
    if (level >= 2) window.limits = NOTHING;
    else if (level === 0) window.limits = this.#limits;
    this.#level = level;
    if (level < 3) return;
    log.error(facts, 'The replication slot is about to keep more of the log than it may');
    if (action === 'drop') onOverflow();
  }
}
