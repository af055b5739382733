import type { Clock } from '../../../lib/clock.js';
import { StatementTimeout, TooManyAbandoned } from '../../../postgres/connection/statement-options.js';
import { type EvaluationError, StaleFacts, TOO_SLOW } from '../authorizer.js';
import type { EvaluationFunction } from './evaluation-function.js';
import type { EvaluationSession } from './evaluation-session.js';

/** Transactions that were read from the WAL are not visible to other sessions yet. */
export class NotVisibleYet extends StaleFacts {}

/** A viewer or a condition to evaluate. Equal items have equal keys, and are equally slow. */
export interface Item {
  readonly key: string;
  /** Why it cannot be evaluated; undefined: it can. */
  readonly error?: EvaluationError | undefined;
}

/** A function to call, with its arguments. */
export interface Call {
  readonly evaluation: EvaluationFunction;
  readonly values: readonly unknown[];
}

/** What is asked about items, and what to do with the answers. */
export interface Question<T extends Item, Row> {
  readonly callFor: (items: readonly T[]) => Call;
  readonly onRow: (item: T, row: Row) => void;
  /** Called for an item that cannot be evaluated, instead of `onRow`. `tookMs`: how long that was tried. */
  readonly onError: (item: T, error: EvaluationError, tookMs: number) => void;
  /** Called after a call has failed: whether `callFor` now returns another one, without what made it fail. */
  readonly onFailure?: () => Promise<boolean>;
}

/** What each row of an answer says which item it is about. */
interface AnswerItem {
  /**
   * The number of the item, from 1. In the last row also: negated, the item that was evaluated when the time was over; 0: names
   * were looked up then; null: transactions are not visible yet.
   */
  readonly item: number | null;
}

/** Time limits of an evaluation: of a group, and of one item that was too slow in a group, in ms. */
const GROUP_TIMEOUT_MS = 2_000;
const SINGLE_TIMEOUT_MS = 1_000;
/** How long an item that failed alone is not evaluated again, in ms. */
const SUSPENDED_MS = 30_000;

/**
 * Evaluates many items in one call. An item that is too slow, or that makes the call fail, fails alone, and is
 * not evaluated again for a while.
 */
export class EvaluationCalls {
  readonly #session: EvaluationSession;
  readonly #clock: Clock;
  /** The errors of items by their keys, with the time until which the items count as failed. */
  readonly #errors = new Map<string, { readonly until: number; readonly error: EvaluationError }>();

  constructor(session: EvaluationSession, clock: Clock) {
    this.#session = session;
    this.#clock = clock;
  }

  /** Throws StaleFacts if the catalog has changed, NotVisibleYet while transactions are not visible. */
  async ask<T extends Item, Row extends AnswerItem>(
    items: readonly T[],
    question: Question<T, Row>,
  ): Promise<void> {
    const asked: T[] = [];
    for (const item of items) {
      const error = item.error ?? this.#suspended(item);
      if (error === undefined) asked.push(item);
      else question.onError(item, error, 0);
    }
    await this.#ask(asked, question, GROUP_TIMEOUT_MS);
  }

  /** Returns the error with which values make this call fail; undefined if they do not. Throws any other. */
  async errorOf({ evaluation, values }: Call): Promise<EvaluationError | undefined> {
    try {
      await this.#session.call(evaluation, values, GROUP_TIMEOUT_MS);
      return undefined;
    } catch (error) {
      return valueErrorOf(error);
    }
  }

  /**
   * An item that takes too long is evaluated again alone, and those after it in another call. If the call
   * fails, each half is evaluated in a call of its own.
   */
  async #ask<T extends Item, Row extends AnswerItem>(
    asked: readonly T[],
    question: Question<T, Row>,
    timeoutMs: number,
  ): Promise<void> {
    const [first] = asked;
    if (first === undefined) return;
    const { evaluation, values } = question.callFor(asked);
    let rows: Row[];
    try {
      rows = await this.#session.call<Row>(evaluation, values, timeoutMs);
    } catch (thrown) {
      // The call says nothing of which item it was at, and each further one could take a connection for good.
      if (thrown instanceof StatementTimeout) {
        for (const item of asked) this.#fail(item, question, TOO_SLOW, timeoutMs / asked.length);
        return;
      }
      // Waiting for one of the abandoned calls to end would hold up all other changes.
      if (thrown instanceof Error && thrown.cause instanceof TooManyAbandoned) {
        for (const item of asked) question.onError(item, TOO_SLOW, 0);
        return;
      }
      const error = valueErrorOf(thrown);
      if (await question.onFailure?.()) return this.#ask(asked, question, timeoutMs);
      if (asked.length === 1) return this.#fail(first, question, error, 0);
      const middle = asked.length >> 1;
      await this.#ask(asked.slice(0, middle), question, timeoutMs);
      return this.#ask(asked.slice(middle), question, timeoutMs);
    }
    for (const row of rows) {
      const item = asked[(row.item ?? 0) - 1];
      if (item !== undefined) question.onRow(item, row);
    }
    const last = rows.at(-1)?.item;
    if (last === asked.length) return;
    if (last === null) throw new NotVisibleYet();
    if (last === undefined || last > 0) throw new StaleFacts();
    if (last === 0) {
      for (const item of asked) this.#fail(item, question, TOO_SLOW, 0);
      return;
    }
    const slow = asked.slice(-last - 1, -last);
    const [slowItem] = slow;
    if (slowItem !== undefined && asked.length === 1) this.#fail(slowItem, question, TOO_SLOW, timeoutMs);
    else await this.#ask(slow, question, SINGLE_TIMEOUT_MS);
    await this.#ask(asked.slice(-last), question, GROUP_TIMEOUT_MS);
  }

  /** Returns the error of an item that failed recently. */
  #suspended({ key }: Item): EvaluationError | undefined {
    const suspended = this.#errors.get(key);
    return suspended !== undefined && suspended.until > this.#clock() ? suspended.error : undefined;
  }

  #fail<T extends Item, Row>(
    item: T,
    { onError }: Question<T, Row>,
    error: EvaluationError,
    tookMs: number,
  ): void {
    const now = this.#clock();
    for (const [other, { until }] of this.#errors) if (until <= now) this.#errors.delete(other);
    this.#errors.set(item.key, { until: now + SUSPENDED_MS, error });
    onError(item, error, tookMs);
  }
}

/**
 * SQLSTATE classes of errors that a value can cause: data exceptions, constraints of domains, and program
 * limits. 22023 is that of a role that does not exist.
 */
const OF_VALUES = /^(?:22(?!023)|23|54)/;

/** Throws an error that no value causes. */
function valueErrorOf(error: unknown): EvaluationError {
  if (error instanceof Error && 'code' in error && OF_VALUES.test(String(error.code)))
    return { sqlstate: String(error.code), message: error.message };
  throw error;
}
