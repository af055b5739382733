import type { RecipientGroup } from '../model/recipient-group.js';
import type { Subscription } from '../subscriptions/subscription.js';
import type { RolePrivileges } from '../visibility/role-privileges.js';
import type { ChangeFrames } from './change-frames.js';
import type { ChangeMatch } from './filter-matches.js';
import type { GroupDeliveries, ListedMessage } from './group-deliveries.js';
import type { DecodedChange } from './table-batch.js';
import { type IsVisible, visibleChangeOf } from './visible-change.js';

/** The changes that at least one member gets, by subscription. */
export type DeliveredChanges = Map<Subscription, Set<DecodedChange>>;

type OpenMessageList = ListedMessage[];

const NONE: readonly Subscription[] = [];

/** Called for a change that is too large to send, and a subscription that it matches. */
type OnTooLarge = (subscription: Subscription, change: DecodedChange) => void;

/** Builds the message lists of recipient groups for one table. Changes must be added in order. */
export class MessageListBuilder {
  readonly #frames: ChangeFrames;
  readonly #delivered: DeliveredChanges;
  readonly #onTooLarge: OnTooLarge;
  readonly #lists = new Map<RecipientGroup, OpenMessageList>();
  /** Lists that all shared groups of a channel have in common. */
  readonly #shared = new Map<Iterable<RecipientGroup>, OpenMessageList>();

  constructor(frames: ChangeFrames, delivered: DeliveredChanges, onTooLarge: OnTooLarge) {
    this.#frames = frames;
    this.#delivered = delivered;
    this.#onTooLarge = onTooLarge;
  }

  /** How many changes were too large to send, counted once for each different message. */
  get tooLargeCount(): number {
    return this.#frames.gapCount;
  }

  /** Adds the visible part of a change to the list of a group; false: nothing is visible. */
  add(group: RecipientGroup, match: ChangeMatch, privileges: RolePrivileges, isVisible: IsVisible): boolean {
    return this.#add(this.#lists, group, match, privileges, isVisible);
  }

  /**
   * Adds a change for several groups that see every row. `groups` must be the same object for the same
   * groups.
   */
  addShared(groups: Iterable<RecipientGroup>, match: ChangeMatch, privileges: RolePrivileges): void {
    this.#add(this.#shared, groups, match, privileges, () => true);
  }

  /** Moves the finished lists into the deliveries of their groups. */
  finish(deliveries: GroupDeliveries): void {
    for (const [group, list] of this.#lists) deliveries.of(group).lists.push(list);
    for (const [groups, list] of this.#shared)
      for (const group of groups) deliveries.of(group).lists.push(list);
  }

  #add<K>(
    lists: Map<K, OpenMessageList>,
    key: K,
    match: ChangeMatch,
    privileges: RolePrivileges,
    isVisible: IsVisible,
  ): boolean {
    const visibleChange = visibleChangeOf(match, isVisible);
    if (visibleChange === undefined) return false;
    const { change } = match;
    const frame = this.#frames.frame(change, visibleChange, privileges);
    const isGap = this.#frames.isGap(frame);
    const { subscriptions } = visibleChange;
    const message = { batchIndex: change.batchIndex, frame, subscriptions: isGap ? NONE : subscriptions };
    const list = lists.get(key);
    if (list === undefined) lists.set(key, [message]);
    else list.push(message);
    for (const subscription of subscriptions) {
      if (isGap) {
        this.#onTooLarge(subscription, change);
        continue;
      }
      const changes = this.#delivered.get(subscription);
      if (changes === undefined) this.#delivered.set(subscription, new Set([change]));
      else changes.add(change);
    }
    return true;
  }
}
