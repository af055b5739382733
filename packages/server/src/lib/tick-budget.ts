import { setImmediate as yieldToEventLoop } from 'node:timers/promises';

/** How long work may run before it lets the event loop go on, in ms. */
const BUDGET_MS = 4;

/** Spreads long work over ticks of the event loop, which runs everything else between them. */
export class TickBudget {
  #end = performance.now() + BUDGET_MS;

  /** Whether the time in this tick is used up: the work then waits for `nextTick`. */
  get isUsedUp(): boolean {
    return performance.now() >= this.#end;
  }

  async nextTick(): Promise<void> {
    await yieldToEventLoop();
    this.#end = performance.now() + BUDGET_MS;
  }
}
