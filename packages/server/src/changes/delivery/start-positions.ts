import type { Subscriber } from '../../channels/subscriber.js';
import { comparePositions, type Position } from '../model/position.js';

/**
 * Keeps the start positions of members that do not get every change: each gets only those after its position.
 */
export class StartPositions {
  readonly #starts = new Map<Subscriber, Position>();

  /** Lets the member get only changes after `position`. */
  start(member: Subscriber, position: Position): void {
    this.#starts.set(member, position);
  }

  remove(member: Subscriber): void {
    this.#starts.delete(member);
  }

  /** Forgets all positions: they mean nothing in a new change epoch. */
  clear(): void {
    this.#starts.clear();
  }

  /**
   * Returns the position after which the member gets changes; undefined: all of them. `first` is the first
   * change that is delivered now. Changes are delivered in order, so a start position before `first` is no
   * longer needed.
   */
  of(member: Subscriber, first?: Position): Position | undefined {
    const start = this.#starts.get(member);
    if (start === undefined || first === undefined || comparePositions(start, first) >= 0) return start;
    this.#starts.delete(member);
    return undefined;
  }
}
