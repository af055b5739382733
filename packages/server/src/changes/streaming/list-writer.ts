import type { Subscription } from '../subscriptions/subscription.js';
import type { RoleRights } from '../table-facts.js';
import type { DecodedChange } from './decoded-change.js';
import type { Frames } from './frames.js';
import type { Groups } from './groups.js';
import { type IsVisible, outcomeOf } from './outcome.js';
import type { Seat } from './seat.js';
import type { Candidate } from './wants.js';

/** For each subscription the changes that at least one member gets. */
export type Delivered = Map<Subscription, Set<DecodedChange>>;

type OpenList = { position: number; frame: Buffer }[];

/** Makes the lists of messages that seats get of one batch. Changes come in their order. */
export class ListWriter {
  readonly #frames: Frames;
  readonly #delivered: Delivered;
  readonly #lists = new Map<Seat, OpenList>();
  /** Lists that all seats of a channel share. */
  readonly #shared = new Map<Iterable<Seat>, OpenList>();

  constructor(frames: Frames, delivered: Delivered) {
    this.#frames = frames;
    this.#delivered = delivered;
  }

  /** Gives a seat a change, as far as it sees it; false: it gets nothing. */
  give(seat: Seat, candidate: Candidate, rights: RoleRights, isVisible: IsVisible): boolean {
    return this.#add(this.#lists, seat, candidate, rights, isVisible);
  }

  /** Gives several seats, which see everything, a change; `seats` is the same object for the same seats. */
  giveAll(seats: Iterable<Seat>, candidate: Candidate, rights: RoleRights): void {
    this.#add(this.#shared, seats, candidate, rights, () => true);
  }

  /** Puts the lists where they belong. */
  finish(groups: Groups): void {
    for (const [seat, list] of this.#lists) groups.of(seat).lists.push(list);
    for (const [seats, list] of this.#shared) for (const seat of seats) groups.of(seat).lists.push(list);
  }

  #add<K>(
    lists: Map<K, OpenList>,
    key: K,
    candidate: Candidate,
    rights: RoleRights,
    isVisible: IsVisible,
  ): boolean {
    const outcome = outcomeOf(candidate, isVisible);
    if (outcome === undefined) return false;
    const { change } = candidate;
    const message = { position: change.position, frame: this.#frames.frame(change, outcome, rights) };
    const list = lists.get(key);
    if (list === undefined) lists.set(key, [message]);
    else list.push(message);
    for (const subscription of outcome.subscriptions) {
      const changes = this.#delivered.get(subscription);
      if (changes === undefined) this.#delivered.set(subscription, new Set([change]));
      else changes.add(change);
    }
    return true;
  }
}
