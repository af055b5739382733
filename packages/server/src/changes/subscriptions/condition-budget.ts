import type { Clock } from '../../lib/clock.js';

/** The part of a condition's time that one payer is charged. */
export interface ConditionCost<S> {
  /** A user, or the channel's subscription itself. */
  readonly payer: string;
  /** The subscription of the payer that has the condition. */
  readonly subscription: S;
  readonly ms: number;
  /** The median time of the conditions that PostgreSQL evaluated in the same call, in ms. */
  readonly medianMs: number;
}

/** The time is averaged over this many seconds. */
const WINDOW_S = 10;
/** What the conditions of a payer may take in the window, in ms: 100 ms of each second. */
const BUDGET_MS = 100 * WINDOW_S;
/**
 * While the ended subscriptions of a payer count for its budget, one that has cost this much ends too, in ms: to subscribe
 * again with the same condition gains nothing, and fast conditions go on.
 */
const BUDGET_OF_NEXT_MS = BUDGET_MS / 10;
/** A call whose median condition takes this long, in ms, is slow for reasons of the database: nobody is charged. */
const SLOW_MEDIAN_MS = 10;

/** What a payer has cost. */
interface Account<S> {
  readonly subscriptions: Map<S, Window>;
  /** What the subscriptions have cost that have ended. */
  readonly ended: Window;
}

/** Adds up the time that PostgreSQL spends on conditions, and finds the subscriptions that take too much of it. */
export class ConditionBudget<S> {
  readonly #clock: Clock;
  readonly #payers = new Map<string, Account<S>>();
  #sweptAt = 0;

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  /** How many payers have costs that count. */
  get size(): number {
    return this.#payers.size;
  }

  /**
   * Charges what the conditions of a batch cost. Returns the subscriptions to end: of each payer that is over its budget now,
   * the one that has cost the most.
   */
  charge(costs: readonly ConditionCost<S>[]): S[] {
    const second = Math.floor(this.#clock() / 1_000);
    this.#sweep(second);
    const charged = new Set<string>();
    for (const { payer, subscription, ms, medianMs } of costs) {
      if (medianMs >= SLOW_MEDIAN_MS) continue;
      charged.add(payer);
      const account = this.#payers.get(payer) ?? { subscriptions: new Map(), ended: new Window() };
      this.#payers.set(payer, account);
      const window = account.subscriptions.get(subscription) ?? new Window();
      account.subscriptions.set(subscription, window);
      window.add(second, ms);
    }
    return [...charged].flatMap((payer) => {
      const account = this.#payers.get(payer);
      return (account === undefined ? undefined : endCostliest(account, second)) ?? [];
    });
  }

  /** Forgets what has left the window. */
  #sweep(second: number): void {
    if (second - this.#sweptAt < WINDOW_S) return;
    this.#sweptAt = second;
    for (const [payer, { subscriptions, ended }] of this.#payers) {
      for (const [subscription, window] of subscriptions)
        if (window.sum(second) === 0) subscriptions.delete(subscription);
      if (subscriptions.size === 0 && ended.sum(second) === 0) this.#payers.delete(payer);
    }
  }
}

/** Ends the subscription that has cost the most, if the payer is over its budget. Returns it. */
function endCostliest<S>({ subscriptions, ended }: Account<S>, second: number): S | undefined {
  let sum = 0;
  let most = 0;
  let costliest: S | undefined;
  for (const [subscription, window] of subscriptions) {
    const ms = window.sum(second);
    sum += ms;
    if (ms > most) {
      most = ms;
      costliest = subscription;
    }
  }
  const isOver = sum > BUDGET_MS || (sum + ended.sum(second) > BUDGET_MS && most > BUDGET_OF_NEXT_MS);
  const window = costliest === undefined ? undefined : subscriptions.get(costliest);
  if (!isOver || costliest === undefined || window === undefined) return undefined;
  ended.addAll(window, second);
  subscriptions.delete(costliest);
  return costliest;
}

/** The costs of the last seconds. */
class Window {
  /** By second, modulo the length. */
  readonly #costs = new Float64Array(WINDOW_S);
  #last = 0;

  add(second: number, ms: number): void {
    this.#advance(second);
    const at = second % WINDOW_S;
    this.#costs[at] = (this.#costs[at] ?? 0) + ms;
  }

  addAll(other: Window, second: number): void {
    this.#advance(second);
    other.#advance(second);
    for (const [at, ms] of other.#costs.entries()) this.#costs[at] = (this.#costs[at] ?? 0) + ms;
  }

  sum(second: number): number {
    this.#advance(second);
    return this.#costs.reduce((sum, ms) => sum + ms, 0);
  }

  /** Clears the seconds that have left the window. */
  #advance(second: number): void {
    const from = Math.max(this.#last + 1, second - WINDOW_S + 1);
    for (let passed = from; passed <= second; passed++) this.#costs[passed % WINDOW_S] = 0;
    this.#last = second;
  }
}
