import { ProtocolError } from '@goforward/realtime-protocol';
import type { Channel } from '../../channels/channel.js';
import type { Subscriber } from '../../channels/subscriber.js';
import type { Clock } from '../../lib/clock.js';
import type { Log } from '../../lib/log.js';
import type { Delivery } from '../delivery/delivery.js';
import type { SubscriptionEntry } from '../routing/subscription-index.js';
import { ConditionBudget, type ConditionCost } from '../subscriptions/condition-budget.js';
import type { PersonalSubscriptions } from '../subscriptions/personal-subscriptions.js';
import type { SubscriptionRegistry } from '../subscriptions/subscription-registry.js';

export interface ConditionLimitsParts {
  readonly clock: Clock;
  readonly personal: Pick<PersonalSubscriptions, 'remove'>;
  readonly subscriptions: Pick<SubscriptionRegistry, 'end'>;
  readonly channel: (name: string) => Channel | undefined;
  readonly delivery: Pick<Delivery, 'send'>;
  readonly log: Log;
}

/** The messages retain no batch. */
const NOT_RETAINED = { retain: () => undefined, release: () => undefined, received: 0 };

/** Ends subscriptions whose conditions take more of PostgreSQL's time than their budget, and tells their members. */
export class ConditionLimits {
  readonly #parts: ConditionLimitsParts;
  readonly #budget: ConditionBudget<SubscriptionEntry>;

  constructor(parts: ConditionLimitsParts) {
    this.#parts = parts;
    this.#budget = new ConditionBudget(parts.clock);
  }

  /** Charges what the conditions of a batch cost. Called when its changes are on their way. */
  charge(costs: readonly ConditionCost<SubscriptionEntry>[]): void {
    if (costs.length === 0) return;
    for (const entry of this.#budget.charge(costs)) this.#end(entry);
  }

  #end({ target, subscription }: SubscriptionEntry): void {
    const { id, filter } = subscription;
    if (typeof target !== 'string') {
      if (this.#parts.personal.remove(target, id)) this.#tell(target, id);
      return;
    }
    const { subscriptions, channel, log } = this.#parts;
    if (!subscriptions.end(id)) return;
    log.warn(
      { table: `${filter.schema}.${filter.table}`, subscription: id },
      'Subscription ended: its condition takes too much time in PostgreSQL',
    );
    for (const member of channel(target)?.audience.members() ?? []) this.#tell(member, id);
  }

  #tell(member: Subscriber, id: string): void {
    const { delivery } = this.#parts;
    const { body } = new ProtocolError('CONDITION_TOO_SLOW', {
      fields: { subscription_id: id, cause: 'condition' },
    });
    delivery.send(member, 'error', body, NOT_RETAINED);
    const gap = { scope: 'changes', reason: 'the subscription has ended', subscription_ids: [id] };
    delivery.send(member, 'gap', gap, NOT_RETAINED);
  }
}
