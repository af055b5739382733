import type { Log } from '../../lib/log.js';
import type { AcknowledgementDelay, WindowLimits } from '../source/acknowledgement-delay.js';
import type { Sql } from '../sql/sql.js';

/** What to do when the slot has nearly used up its WAL budget: keep it, or drop it with a reported gap. */
export type WalLimitAction = 'keep' | 'drop';

export interface SlotBudgetParts {
  readonly sql: Sql;
  readonly slot: string;
  /** The publication of the stream. A recreated one has the same name and another oid. */
  readonly publication: { readonly name: string; readonly oid: number };
  readonly window: AcknowledgementDelay;
  /** How much WAL the slot may retain where PostgreSQL sets no limit, in bytes. */
  readonly budgetBytes: number;
  readonly action: WalLimitAction;
  readonly log: Log;
  /** Called when the slot exceeds its budget and `action` is `drop`. */
  readonly onOverflow: () => void;
  /** Called when the publication was dropped or recreated: changes may be missing from now on. */
  readonly onPublicationGone: () => void;
}

const INTERVAL_MS = 5_000;
/** The status of the slot is logged at every nth check: once an hour. */
const REPORT_EVERY = 720;
/** Thresholds, as shares of the WAL budget. */
const WARN_AT = 0.5;
const SHRINK_AT = 0.8;
const ACT_AT = 0.95;
const NOTHING: WindowLimits = { ms: 0, bytes: 0 };

interface SlotStatus {
  /** WAL retained for the slot, in bytes. */
  readonly retained: number;
  /** How much more WAL PostgreSQL lets the slot retain, in bytes; null: no limit. */
  readonly safe: number | null;
  readonly xmin_age: number | null;
  readonly publication: number | null;
}

/**
 * Watches how much WAL the slot retains, so that it never fills PostgreSQL's disk unnoticed. Logs the amount
 * every hour, warns at 50 % of the budget, reduces the resume window to nothing at 80 %, and at 95 % follows
 * REALTIME_WAL_LIMIT_ACTION. Also detects that the publication was dropped or recreated.
 */
export class SlotBudget {
  readonly #parts: SlotBudgetParts;
  readonly #limits: WindowLimits;
  #timer: NodeJS.Timeout | undefined;
  #level = 0;
  #checks = 0;
  retainedBytes = 0;
  /** By how many transactions the slot holds back vacuum of the catalog. */
  xminAge = 0;

  constructor(parts: SlotBudgetParts) {
    this.#parts = parts;
    this.#limits = parts.window.limits;
  }

  start(): void {
    this.#timer = setInterval(() => void this.check(), INTERVAL_MS);
    void this.check();
  }

  stop(): void {
    clearInterval(this.#timer);
    this.#timer = undefined;
  }

  /** Checks the slot once. Ignores errors: the stream reports a lost database. */
  async check(): Promise<void> {
    const { sql, slot, publication, onPublicationGone } = this.#parts;
    try {
      const [status] = await sql.query<SlotStatus>(
        `SELECT (pg_current_wal_insert_lsn() - restart_lsn)::float8 AS retained, safe_wal_size::float8 AS safe,
                age(catalog_xmin) AS xmin_age, (SELECT oid FROM pg_publication WHERE pubname = $2) AS publication
         FROM pg_replication_slots WHERE slot_name = $1`,
        [slot, publication.name],
      );
      if (status === undefined || this.#timer === undefined) return;
      this.retainedBytes = status.retained;
      this.xminAge = status.xmin_age ?? 0;
      if (status.publication !== publication.oid) onPublicationGone();
      else this.#applyBudget(status);
    } catch {
      // The next check tries again.
    }
  }

  #applyBudget({ retained, safe, xmin_age }: SlotStatus): void {
    const { budgetBytes, window, log, slot, action, onOverflow } = this.#parts;
    const budget = safe === null ? budgetBytes : retained + Math.max(0, safe);
    const facts = { slot, retainedBytes: retained, budgetBytes: budget, xminAge: xmin_age };
    if (this.#checks++ % REPORT_EVERY === 0) log.info(facts, 'Replication slot status');
    const share = retained / budget;
    const level = [WARN_AT, SHRINK_AT, ACT_AT].filter((at) => share >= at).length;
    if (level === this.#level) return;
    if (level > this.#level)
      log.warn(
        facts,
        level === 1
          ? 'The replication slot retains more than half of its WAL budget'
          : 'The replication slot retains more than 80 % of its WAL budget; the resume window is reduced to nothing',
      );
    // Between 50 % and 80 % the window stays as it is (hysteresis), so that it does not toggle.
    if (level >= 2) window.limits = NOTHING;
    else if (level === 0) window.limits = this.#limits;
    this.#level = level;
    if (level < 3) return;
    log.error(facts, 'The replication slot has nearly used up its WAL budget');
    if (action === 'drop') onOverflow();
  }
}
