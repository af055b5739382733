import type { Clock } from '../../../lib/clock.js';
import type { Log } from '../../../lib/log.js';
import type { EvaluationError } from '../authorizer.js';

export interface ReportedError {
  readonly table: { readonly schema: string; readonly name: string };
  readonly role: string;
  readonly error: EvaluationError;
  /** What was evaluated; in a snapshot it is not known which raised the error. */
  readonly raisedBy: 'policy' | 'condition' | 'policy or condition';
  /** The names of the evaluated policies. */
  readonly policies: readonly string[];
}

/** At most one line in this time, in ms: an error's text can differ for each user and row. */
const INTERVAL_MS = 60_000;
/** The message can hold values of rows: no more of it is logged, in characters. */
const MAX_MESSAGE_LENGTH = 200;
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

  report({ table: { schema, name }, role, error, raisedBy, policies }: ReportedError): void {
    const table = `${schema}.${name}`;
    const { sqlstate } = error;
    const message = error.message.slice(0, MAX_MESSAGE_LENGTH);
    const key = JSON.stringify([raisedBy, table, role, sqlstate, message]);
    if (this.#logged.has(key)) return;
    const now = this.#clock();
    if (now < this.#nextAt) {
      this.#suppressed += 1;
      return;
    }
    this.#nextAt = now + INTERVAL_MS;
    this.#remember(key);
    this.#log.warn(
      {
        table,
        role,
        raised_by: raisedBy,
        ...(policies.length === 0 ? {} : { policies }),
        sqlstate,
        error: message,
        ...(this.#suppressed === 0 ? {} : { suppressed: this.#suppressed }),
      },
      'A policy or condition raised an error; rows were not sent',
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
