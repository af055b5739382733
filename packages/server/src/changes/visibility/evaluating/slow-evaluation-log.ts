import type { Clock } from '../../../lib/clock.js';
import type { Log } from '../../../lib/log.js';

export interface SlowEvaluation {
  readonly table: { readonly schema: string; readonly name: string };
  readonly role: string;
  /** How the policies are evaluated. PostgreSQL reads lists and other parameters of compiled ones. */
  readonly tier: 'INDEXED' | 'COMPILED' | 'POSTGRES';
  /** The names of the evaluated policies; empty: conditions were evaluated. */
  readonly policies: readonly string[];
  /** How long it took, in ms, or how long it was waited for. */
  readonly ms: number;
}

/** At most one line of a table in this time, in ms. */
const INTERVAL_MS = 10_000;
/** How many tables are remembered. */
const MAX_TABLES = 1_000;

/** Logs and counts evaluations that live changes do not wait for, by table. A condition's text is never logged. */
export class SlowEvaluationLog {
  readonly #log: Log;
  readonly #clock: Clock;
  readonly #count: (table: string) => void;
  readonly #nextAt = new Map<string, number>();

  /** `count` is called for every evaluation. */
  constructor(log: Log, clock: Clock, count: (table: string) => void) {
    this.#log = log;
    this.#clock = clock;
    this.#count = count;
  }

  report({ table: { schema, name }, role, tier, policies, ms }: SlowEvaluation): void {
    const table = `${schema}.${name}`;
    this.#count(table);
    const now = this.#clock();
    if (now < (this.#nextAt.get(table) ?? 0)) return;
    this.#nextAt.delete(table);
    this.#nextAt.set(table, now + INTERVAL_MS);
    const [oldest] = this.#nextAt.keys();
    if (this.#nextAt.size > MAX_TABLES && oldest !== undefined) this.#nextAt.delete(oldest);
    const evaluated = policies.length === 0 ? { evaluated: 'condition' } : { evaluated: 'policy', policies };
    this.#log.warn(
      { table, role, tier, ...evaluated, ms: Math.round(ms) },
      'A policy or condition is slow; members that need it get their row changes later than others',
    );
  }
}
