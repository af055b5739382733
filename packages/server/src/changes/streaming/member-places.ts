import type { Subscriber } from '../../channels/subscriber.js';
import { comparePositions, type Position } from './position.js';

/** Where members begin that do not get everything from the first change on: each gets what is behind its place. */
export class MemberPlaces {
  readonly #starts = new Map<Subscriber, Position>();

  /** The member gets what is behind `position`. */
  start(member: Subscriber, position: Position): void {
    this.#starts.set(member, position);
  }

  left(member: Subscriber): void {
    this.#starts.delete(member);
  }

  /** Another history: places in the old one mean nothing. */
  clear(): void {
    this.#starts.clear();
  }

  /** Whether the member gets any of the changes from `first` to `last`. */
  wants(member: Subscriber, first: Position, last: Position): boolean {
    const start = this.#starts.get(member);
    if (start === undefined) return true;
    if (comparePositions(start, first) >= 0) return comparePositions(start, last) < 0;
    // Everything comes in order, so that from now on it gets all.
    this.#starts.delete(member);
    return true;
  }

  /** Behind which position the member gets changes; undefined: all. */
  of(member: Subscriber): Position | undefined {
    return this.#starts.get(member);
  }
}
