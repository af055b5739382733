import type { Subscriber } from '../../channels/subscriber.js';
import type { WallClock } from '../../lib/clock.js';
import type { MessageList } from '../routing/group-deliveries.js';
import type { Subscription } from '../subscriptions/subscription.js';

/** What the connections of a user have received of a subscription. */
export interface Received {
  readonly messageCount: number;
  readonly lastActivity: Date | null;
}

interface UserCounts {
  connections: number;
  readonly bySubscription: WeakMap<Subscription, { messages: number; at: number }>;
}

const NOTHING: Received = { messageCount: 0, lastActivity: null };

/**
 * Counts, for each user with connections, the changes of each subscription that these have received. Users see these
 * counts: those of all members would tell of rows that policies hide from them. A user's counts end with the last
 * connection. Anonymous users have none, since nobody can ask for them.
 */
export class ReceivedCounts {
  readonly #wallClock: WallClock;
  readonly #byUser = new Map<string, UserCounts>();
  readonly #byMember = new Map<Subscriber, UserCounts>();

  constructor(wallClock: WallClock) {
    this.#wallClock = wallClock;
  }

  joined(member: Subscriber): void {
    if (member.identity.isAnonymous === true || this.#byMember.has(member)) return;
    const counts = this.#byUser.get(member.userId) ?? { connections: 0, bySubscription: new WeakMap() };
    counts.connections += 1;
    this.#byUser.set(member.userId, counts);
    this.#byMember.set(member, counts);
  }

  left(member: Subscriber): void {
    const counts = this.#byMember.get(member);
    if (counts === undefined) return;
    this.#byMember.delete(member);
    counts.connections -= 1;
    if (counts.connections === 0) this.#byUser.delete(member.userId);
  }

  /** Adds what is delivered to members from here on, with the present time. Lists are counted once for all members. */
  startDelivery(): (member: Subscriber, lists: readonly MessageList[]) => void {
    const at = this.#wallClock.epochMs();
    const numbersByList = new Map<MessageList, ReadonlyMap<Subscription, number>>();
    return (member, lists) => {
      const counts = this.#byMember.get(member)?.bySubscription;
      if (counts === undefined) return;
      for (const list of lists) {
        const numbers = numbersByList.get(list) ?? numbersOf(list);
        numbersByList.set(list, numbers);
        for (const [subscription, messages] of numbers) {
          const known = counts.get(subscription);
          if (known === undefined) counts.set(subscription, { messages, at });
          else {
            known.messages += messages;
            known.at = at;
          }
        }
      }
    };
  }

  /** Returns what the user's own connections have received of a subscription. */
  of(userId: string, subscription: Subscription): Received {
    const own = this.#byUser.get(userId)?.bySubscription.get(subscription);
    return own === undefined ? NOTHING : { messageCount: own.messages, lastActivity: new Date(own.at) };
  }
}

/** Returns how many messages of a list are for each subscription. */
function numbersOf(list: MessageList): ReadonlyMap<Subscription, number> {
  const numbers = new Map<Subscription, number>();
  for (const { subscriptions } of list)
    for (const subscription of subscriptions) numbers.set(subscription, (numbers.get(subscription) ?? 0) + 1);
  return numbers;
}
