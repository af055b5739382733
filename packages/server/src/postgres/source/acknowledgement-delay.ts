import type { Lsn } from '../sql/lsn.js';

/** How much of the WAL stays unacknowledged, so that it can be read again: the smaller of both limits. */
export interface WindowLimits {
  readonly ms: number;
  readonly bytes: number;
}

/** A position up to which everything was delivered, and when. */
export interface Mark {
  readonly lsn: Lsn;
  /** When, in ms. */
  readonly at: number;
  /** How many transactions of interest come before it. */
  readonly transactions: number;
}

/**
 * Delays acknowledgement: delivered WAL stays readable until it has left the window, so that clients can
 * resume.
 */
export class AcknowledgementDelay {
  #limits: WindowLimits;
  #marks: Mark[] = [];
  #newest: Lsn = -1n;

  constructor(limits: WindowLimits) {
    this.#limits = limits;
  }

  get limits(): WindowLimits {
    return this.#limits;
  }

  /** Changes the limits from now on. */
  set limits(limits: WindowLimits) {
    this.#limits = limits;
  }

  /** Records a delivered position. Called about once a second; a position that is not newer is ignored. */
  mark(mark: Mark): void {
    if (mark.lsn <= this.#newest) return;
    this.#newest = mark.lsn;
    this.#marks.push(mark);
  }

  /**
   * Returns the newest mark that has left the window, given the time and the end of the WAL; undefined: none
   * since the last call.
   */
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
