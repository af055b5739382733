import type { Subscriber } from '../../channels/subscriber.js';
import { comparePositions, type Position } from '../model/position.js';

/** Where members begin that do not get everything from the first change on: each gets what is behind its place. */
export class MemberPositions {
  readonly #starts = new Map<Subscriber, Position>();

  /** The member gets what is behind `position`. */
  start(member: Subscriber, position: Position): void {
    this.#starts.set(member, position);
  }

  remove(member: Subscriber): void {
    this.#starts.delete(member);
  }

  /** Another history: places in the old one mean nothing. */
  clear(): void {
    this.#starts.clear();
  }

  /**
   * Behind which position the member gets changes; undefined: all. `first`: what is handed out begins there, and
   * everything comes in order, so that whoever is before it gets all from now on.
   */
  of(member: Subscriber, first?: Position): Position | undefined {
    const start = this.#starts.get(member);
    if (start === undefined || first === undefined || comparePositions(start, first) >= 0) return start;
    this.#starts.delete(member);
    return undefined;
  }
}
