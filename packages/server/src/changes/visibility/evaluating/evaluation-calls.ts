import type { Clock } from '../../../lib/clock.js';
import { StatementTimeout, TooManyAbandoned } from '../../../postgres/connection/statement-options.js';
import { type EvaluationError, TOO_SLOW, type Undecided } from '../authorizer.js';
import { type Deadline, NotDecided } from '../deadline.js';
import { StaleFacts } from '../stale-facts.js';
import type { EvaluationFunction } from './evaluation-function.js';
import type { EvaluationSessions } from './evaluation-sessions.js';
import type { SlowEvaluations } from './slow-evaluations.js';

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
  /** Called for an item that is not evaluated before the deadline. */
  readonly onUndecided: (item: T, why: Undecided) => void;
  /** Called when an item has taken long, or was evaluated in vain until the deadline; `ms`: for how long. */
  readonly onSlow: (ms: number) => void;
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
/** How many items of a batch may use up the time of a call, before those behind them are undecided. */
const MAX_SLOW_AT_ONCE = 3;
/** Once quick items have used up the time of a call, the next calls get so many times as much: each call costs something. */
const LONGER_CALL_FACTOR = 3;
/** The share of the items that could be decided in the time of a call, of which it is asked. */
const LIKELY_SHARE = 0.8;
/** How long an item that failed alone is not evaluated again, in ms. */
const SUSPENDED_MS = 30_000;

/**
 * Evaluates many items in one call. An item that is too slow, or that makes the call fail, fails alone, and is
 * not evaluated again for a while.
 */
export class EvaluationCalls {
  readonly #sessions: EvaluationSessions;
  readonly #slow: SlowEvaluations;
  readonly #clock: Clock;
  /** The errors of items by their keys, with the time until which the items count as failed. */
  readonly #errors = new Map<string, { readonly until: number; readonly error: EvaluationError }>();

  /** Whether the last batch took longer than a first call has time: the next one is likely to, too. */
  #isBusy = false;

  constructor(sessions: EvaluationSessions, slow: SlowEvaluations, clock: Clock) {
    this.#sessions = sessions;
    this.#slow = slow;
    this.#clock = clock;
  }

  /**
   * With a deadline, an item that is slow is undecided, and so are others that wait behind it; one that was slow lately is
   * not even asked about. Throws StaleFacts if the catalog has changed, NotVisibleYet while transactions are not visible.
   */
  async ask<T extends Item, Row extends AnswerItem>(
    items: readonly T[],
    question: Question<T, Row>,
    deadline?: Deadline,
  ): Promise<void> {
    const asked: T[] = [];
    for (const item of items) {
      const error = item.error ?? this.#suspended(item);
      if (error !== undefined) question.onError(item, error, 0);
      else if (deadline !== undefined && this.#slow.isSlow(item.key)) question.onUndecided(item, 'slow');
      else asked.push(item);
    }
    if (deadline === undefined) await this.#ask(asked, question, GROUP_TIMEOUT_MS);
    else await this.#askUntil(deadline, asked, question);
  }

  /**
   * Returns the error with which values make this call fail; undefined if they do not. Throws any other, and NotDecided
   * after the deadline.
   */
  async errorOf({ evaluation, values }: Call, deadline?: Deadline): Promise<EvaluationError | undefined> {
    try {
      if (deadline === undefined) await this.#sessions.call(evaluation, values, GROUP_TIMEOUT_MS);
      else await deadline.within(this.#sessions.call(evaluation, values, deadline.statementMs, deadline));
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
      rows = await this.#call<Row>(asked, question, { evaluation, values }, timeoutMs);
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
    const last = answered(asked, question, rows);
    if (last === asked.length) return;
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

  /**
   * As `#ask`, but an item that uses up the time of a call alone is undecided. Many items that are each quick are worth
   * waiting for; what is behind a few slow ones is undecided too.
   */
  async #askUntil<T extends Item, Row extends AnswerItem>(
    deadline: Deadline,
    asked: readonly T[],
    question: Question<T, Row>,
  ): Promise<void> {
    const started = this.#clock();
    let left = asked;
    let factor = this.#isBusy ? LONGER_CALL_FACTOR : 1;
    let atOnce = asked.length;
    while (left.length > 0) {
      if (deadline.slowCount >= MAX_SLOW_AT_ONCE) return undecided(left, question);
      const some = left.slice(0, atOnce);
      const call = deadline.again(factor);
      const last = await this.#askOnce(deadline, call, some, question);
      if (last === 0) return undecided(left, question);
      if (last === undefined || last > 0) {
        left = left.slice(some.length);
        continue;
      }
      const decided = -last - 1;
      const [slow] = left;
      if (decided > 0 || slow === undefined) {
        left = left.slice(decided);
        // As many as will be decided in the time of the next calls: each call costs something.
        factor = LONGER_CALL_FACTOR;
        atOnce = Math.max(1, Math.floor(decided * LONGER_CALL_FACTOR * LIKELY_SHARE));
        continue;
      }
      this.#slow.overran(slow.key);
      question.onSlow(call.statementMs);
      question.onUndecided(slow, 'slow');
      left = left.slice(1);
      deadline.slowCount += 1;
      factor = 1;
    }
    if (asked.length > 0) this.#isBusy = this.#clock() - started > deadline.statementMs;
  }

  /**
   * Makes one call. Returns the number of items if all are answered; otherwise, negated, the number of the item that was
   * evaluated when the time was over, or 0, also if there was no answer in time; undefined if every item has got another
   * answer.
   */
  async #askOnce<T extends Item, Row extends AnswerItem>(
    deadline: Deadline,
    call: Deadline,
    asked: readonly T[],
    question: Question<T, Row>,
  ): Promise<number | undefined> {
    const { evaluation, values } = question.callFor(asked);
    try {
      const rows = await call.within(this.#sessions.call<Row>(evaluation, values, call.statementMs, call));
      return answered(asked, question, rows);
    } catch (thrown) {
      if (thrown instanceof StaleFacts) throw thrown;
      if (isForLackOfTime(thrown)) return 0;
      const error = valueErrorOf(thrown);
      const [first] = asked;
      if (await question.onFailure?.()) await this.#askUntil(deadline, asked, question);
      else if (asked.length === 1 && first !== undefined) this.#fail(first, question, error, 0);
      else {
        const middle = asked.length >> 1;
        await this.#askUntil(deadline, asked.slice(0, middle), question);
        await this.#askUntil(deadline, asked.slice(middle), question);
      }
      return undefined;
    }
  }

  /** Notes how long an item that was asked about alone takes. */
  async #call<Row extends object>(
    asked: readonly Item[],
    { onSlow }: Pick<Question<Item, Row>, 'onSlow'>,
    { evaluation, values }: Call,
    timeoutMs: number,
  ): Promise<Row[]> {
    let started = this.#clock();
    const rows = await this.#sessions.call<Row>(evaluation, values, timeoutMs, undefined, () => {
      started = this.#clock();
    });
    const [first] = asked;
    const ms = this.#clock() - started;
    if (first !== undefined && asked.length === 1 && this.#slow.evaluated(first.key, ms)) onSlow(ms);
    return rows;
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

/** Leaves items undecided that wait behind others. */
function undecided<T extends Item, Row>(items: readonly T[], { onUndecided }: Question<T, Row>): void {
  for (const item of items) onUndecided(item, 'behind');
}

/**
 * Uses the rows of an answer. Returns the number of items if all are answered; otherwise, negated, the number of the
 * item that was evaluated when the time was over, or 0. Throws as `ask`.
 */
function answered<T extends Item, Row extends AnswerItem>(
  asked: readonly T[],
  { onRow }: Question<T, Row>,
  rows: readonly Row[],
): number {
  for (const row of rows) {
    const item = asked[(row.item ?? 0) - 1];
    if (item !== undefined) onRow(item, row);
  }
  const last = rows.at(-1)?.item;
  if (last === null) throw new NotVisibleYet();
  if (last === undefined || (last > 0 && last < asked.length)) throw new StaleFacts();
  return last;
}

/** Whether PostgreSQL did not answer in time, or had no connection for the call. */
function isForLackOfTime(error: unknown): boolean {
  if (error instanceof NotDecided || error instanceof StatementTimeout) return true;
  if (!(error instanceof Error)) return false;
  return error.cause instanceof TooManyAbandoned || ('code' in error && error.code === TOO_SLOW.sqlstate);
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
