import { ProtocolError } from '@goforward/realtime-protocol';
import type { Subscriber } from '../../channels/subscriber.js';
import type { ChangeCounts, Outcome } from '../subscriptions/change-counts.js';
import type { PersonalSubscriptions } from '../subscriptions/personal-subscriptions.js';
import type { Subscription } from '../subscriptions/subscription.js';

export interface SubscriptionReport {
  readonly subscription: Subscription;
  /** The connection whose own it is; undefined: it is of a channel. */
  readonly owner: Subscriber | undefined;
  /** What became of the changes of its table and events; `condition`: those that its condition did not want. */
  readonly counts: Readonly<Record<Outcome | 'condition', number>> & { readonly since: Date };
}

interface SubscriptionReportParts {
  /** Those of channels. */
  readonly shared: { find(id: string): Subscription | undefined };
  readonly personal: Pick<PersonalSubscriptions, 'find'>;
  readonly counts: Pick<ChangeCounts, 'filteredOut'>;
}

/** What can be told of a subscription, of a channel or of a connection. */
export class SubscriptionReports {
  readonly #parts: SubscriptionReportParts;

  constructor(parts: SubscriptionReportParts) {
    this.#parts = parts;
  }

  /** Throws SUBSCRIPTION_NOT_FOUND. */
  of(id: string): SubscriptionReport {
    const { shared, personal, counts } = this.#parts;
    const own = personal.find(id);
    const subscription = own?.subscription ?? shared.find(id);
    if (subscription === undefined)
      throw new ProtocolError('SUBSCRIPTION_NOT_FOUND', { error: `subscription ${id} not found` });
    const { since, outcomes } = subscription.counts;
    const condition = subscription.condition === null ? 0 : counts.filteredOut(subscription);
    return { subscription, owner: own?.owner, counts: { since, ...outcomes, condition } };
  }
}
