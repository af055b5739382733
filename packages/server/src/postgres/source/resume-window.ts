import type { Lsn } from '../sql/lsn.js';

/** How much of the log is kept unacknowledged, so that it can be read again: whichever of both is less. */
export interface WindowLimits {
  readonly ms: number;
  readonly bytes: number;
}

/** A position up to which everything was handed out at a time. */
export interface Mark {
  readonly lsn: Lsn;
  /** When, in ms. */
  readonly at: number;
  /** How many transactions with changes for us were before it. */
  readonly transactions: number;
}

/** Holds the acknowledged position back: what was handed out stays readable until the window has passed over it. */
export class ResumeWindow {
  #limits: WindowLimits;
  #marks: Mark[] = [];
  #newest: Lsn = -1n;

  constructor(limits: WindowLimits) {
    this.#limits = limits;
  }

  get limits(): WindowLimits {
    return this.#limits;
  }

  /** Other limits from now on. */
  set limits(limits: WindowLimits) {
    this.#limits = limits;
  }

  /** Notes how far everything was handed out; called about once a second, ever higher. */
  mark(mark: Mark): void {
    if (mark.lsn <= this.#newest) return;
    this.#newest = mark.lsn;
    this.#marks.push(mark);
  }

  /** The newest mark that the window has left behind, given the time and the end of the log; undefined: none newer than before. */
  passed(now: number, end: Lsn): Mark | undefined {
    const { ms, bytes } = this.#limits;
    let passed: Mark | undefined;
    let count = 0;
    for (const mark of this.#marks) {
      if (now - mark.at < ms && end - mark.lsn < BigInt(bytes)) break;
      passed = mark;
      count += 1;
    }
    this.#marks.splice(0, count);
    return passed;
  }
}
