import type { Channel } from '../../channels/channel.js';
import type { Subscriber } from '../../channels/subscriber.js';
import type { RowContext, RowContexts } from '../row-context.js';
import type { Subscription } from '../subscriptions/subscription.js';
import type { TableFacts } from '../table-facts.js';

/** The messages of one table's changes, each with its place in the slice. */
export type FrameList = readonly { readonly position: number; readonly frame: Buffer }[];

/** The members of one channel with one context, and what they get of a slice. */
export interface Group {
  readonly channel: Channel;
  readonly context: RowContext;
  /** The one member, where it has subscriptions of its own. */
  readonly owner: Subscriber | undefined;
  readonly members: Subscriber[];
  /** One list for each table; groups that see the same share it. */
  readonly lists: FrameList[];
  /** The subscriptions whose policy or condition failed on some row, and the table as it was then. */
  readonly failed: Map<Subscription, TableFacts>;
}

/** The members of the channels that a slice concerns, by context: each context is judged once, and its bytes made once. */
export class Groups {
  readonly #contexts: RowContexts;
  readonly #membersOf: (channel: Channel) => Iterable<Subscriber>;
  readonly #isOwner: (member: Subscriber) => boolean;
  readonly #byChannel = new Map<Channel, readonly Group[]>();

  constructor(
    contexts: RowContexts,
    membersOf: (channel: Channel) => Iterable<Subscriber>,
    isOwner: (member: Subscriber) => boolean,
  ) {
    this.#contexts = contexts;
    this.#membersOf = membersOf;
    this.#isOwner = isOwner;
  }

  /** The groups of a channel, as its members are at the first call. */
  of(channel: Channel): readonly Group[] {
    let groups = this.#byChannel.get(channel);
    if (groups === undefined) {
      groups = this.#make(channel);
      this.#byChannel.set(channel, groups);
    }
    return groups;
  }

  all(): readonly Group[] {
    return [...this.#byChannel.values()].flat();
  }

  #make(channel: Channel): readonly Group[] {
    const groups = new Map<string, Group>();
    for (const member of this.#membersOf(channel)) {
      const context = this.#contexts.of(member.identity);
      const owner = this.#isOwner(member) ? member : undefined;
      const key = owner === undefined ? context.key : owner.id;
      const group = groups.get(key);
      if (group === undefined) {
        groups.set(key, { channel, context, owner, members: [member], lists: [], failed: new Map() });
      } else group.members.push(member);
    }
    return [...groups.values()];
  }
}
