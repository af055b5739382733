import { setImmediate as yieldToEventLoop } from 'node:timers/promises';

/** How long work may run before it lets the event loop go on, in ms. */
const SLICE_MS = 4;

/** Divides long work into slices, between which the event loop runs everything else. */
export class TimeSlice {
  #end = performance.now() + SLICE_MS;

  /** Whether the work has used up its slice: it then waits for `next`. */
  get isOver(): boolean {
    return performance.now() >= this.#end;
  }

  async next(): Promise<void> {
    await yieldToEventLoop();
    this.#end = performance.now() + SLICE_MS;
  }
}
