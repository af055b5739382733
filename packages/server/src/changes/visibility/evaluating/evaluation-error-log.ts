import type { Clock } from '../../../lib/clock.js';
import type { Log } from '../../../lib/log.js';
import type { EvaluationError } from '../authorizer.js';

export interface ReportedError {
  readonly table: { readonly schema: string; readonly name: string };
  readonly role: string;
  readonly error: EvaluationError;
  /** The evaluated policies, one of which raised the error; undefined if a condition did. */
  readonly policies?: readonly string[] | undefined;
}

/** At most one line in this time, in ms: an error's text can differ for each user and row. */
const INTERVAL_MS = 60_000;
/** How many logged errors are remembered; the oldest are forgotten, and can be logged again. */
const MAX_REMEMBERED = 1_000;

/** Logs errors of policies and conditions: each once for a table, role and text, and at most one a minute. */
export class EvaluationErrorLog {
  readonly #log: Log;
  readonly #clock: Clock;
  readonly #logged = new Set<string>();
  #nextAt = Number.NEGATIVE_INFINITY;
  #suppressed = 0;

  constructor(log: Log, clock: Clock) {
    this.#log = log;
    this.#clock = clock;
  }

  report({ table: { schema, name }, role, error, policies }: ReportedError): void {
    const table = `${schema}.${name}`;
    const kind = policies === undefined ? 'condition' : 'policy';
    const key = JSON.stringify([kind, table, role, error.sqlstate, error.message]);
    if (this.#logged.has(key)) return;
    const now = this.#clock();
    if (now < this.#nextAt) {
      this.#suppressed += 1;
      return;
    }
    this.#nextAt = now + INTERVAL_MS;
    this.#remember(key);
    const { sqlstate, message } = error;
    this.#log.warn(
      {
        table,
        role,
        ...(policies === undefined ? {} : { policies }),
        sqlstate,
        error: message,
        ...(this.#suppressed === 0 ? {} : { suppressed: this.#suppressed }),
      },
      kind === 'policy'
        ? 'A policy raised an error; the row was not sent'
        : 'A condition raised an error; the row was not sent',
    );
    this.#suppressed = 0;
  }

  #remember(key: string): void {
    this.#logged.add(key);
    if (this.#logged.size <= MAX_REMEMBERED) return;
    const [oldest] = this.#logged;
    if (oldest !== undefined) this.#logged.delete(oldest);
  }
}
