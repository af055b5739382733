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

/** At most one line of a source in this time, in ms: an error's text can differ for each user and row. */
const INTERVAL_MS = 60_000;
/** How much of the message of a policy's error is logged, in characters. */
const MAX_MESSAGE_LENGTH = 200;
/** How many errors and sources are remembered; the oldest are forgotten, and can be logged again. */
const MAX_REMEMBERED = 1_000;

interface Source {
  nextAt: number;
  suppressed: number;
}

/**
 * Logs errors of policies and conditions: each once, and at most one a minute for what raised it, its table
 * and its role. A user can make conditions that fail, with values of rows in their errors: these have no text
 * in the log, and leave no policy's error out of it.
 */
export class EvaluationErrorLog {
  readonly #log: Log;
  readonly #clock: Clock;
  readonly #logged = new Map<string, true>();
  readonly #sources = new Map<string, Source>();

  constructor(log: Log, clock: Clock) {
    this.#log = log;
    this.#clock = clock;
  }

  report({
    table: { schema, name },
    role,
    error: { sqlstate, message },
    raisedBy,
    policies,
  }: ReportedError): void {
    const table = `${schema}.${name}`;
    const text = raisedBy === 'policy' ? { error: message.slice(0, MAX_MESSAGE_LENGTH) } : {};
    const sourceKey = JSON.stringify([raisedBy, table, role]);
    const key = JSON.stringify([sourceKey, sqlstate, text]);
    if (this.#logged.has(key)) return;
    const now = this.#clock();
    const source = this.#sources.get(sourceKey);
    if (source !== undefined && now < source.nextAt) {
      source.suppressed += 1;
      return;
    }
    const suppressed = source?.suppressed ?? 0;
    remember(this.#sources, sourceKey, { nextAt: now + INTERVAL_MS, suppressed: 0 });
    remember(this.#logged, key, true);
    this.#log.warn(
      {
        table,
        role,
        raised_by: raisedBy,
        ...(policies.length === 0 ? {} : { policies }),
        sqlstate,
        ...text,
        ...(suppressed === 0 ? {} : { suppressed }),
      },
      'A policy or condition raised an error; rows were not sent',
    );
  }
}

function remember<Value>(map: Map<string, Value>, key: string, value: Value): void {
  map.set(key, value);
  if (map.size <= MAX_REMEMBERED) return;
  const [oldest] = map.keys();
  if (oldest !== undefined) map.delete(oldest);
}
