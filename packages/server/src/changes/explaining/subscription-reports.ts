import { ProtocolError } from '@goforward/realtime-protocol';
import type { Subscriber } from '../../channels/subscriber.js';
import type { ChangeCounts, Outcome } from '../subscriptions/change-counts.js';
import type { PersonalSubscriptions } from '../subscriptions/personal-subscriptions.js';
import type { Subscription } from '../subscriptions/subscription.js';

export interface SubscriptionReport {
  readonly subscription: Subscription;
  /** The connection of a personal subscription; undefined for a channel's. */
  readonly owner: Subscriber | undefined;
  /** The changes of its table and events, by outcome; `condition`: those that did not match its condition. */
  readonly counts: Readonly<Record<Outcome | 'condition', number>> & { readonly since: Date };
}

interface SubscriptionReportParts {
  /** Subscriptions of channels. */
  readonly shared: { find(id: string): Subscription | undefined };
  readonly personal: Pick<PersonalSubscriptions, 'find'>;
  readonly counts: Pick<ChangeCounts, 'filteredOut'>;
}

/** Reports on subscriptions of channels and connections. */
export class SubscriptionReports {
  readonly #parts: SubscriptionReportParts;

  constructor(parts: SubscriptionReportParts) {
    this.#parts = parts;
  }

  /** Reports on a subscription by its id. Throws SUBSCRIPTION_NOT_FOUND. */
  report(id: string): SubscriptionReport {
    const { shared, personal, counts } = this.#parts;
    const found = personal.find(id);
    const subscription = found?.subscription ?? shared.find(id);
    if (subscription === undefined)
      throw new ProtocolError('SUBSCRIPTION_NOT_FOUND', { error: `subscription ${id} not found` });
    const { since, outcomes } = subscription.counts;
    const condition = subscription.condition === null ? 0 : counts.filteredOut(subscription);
    return { subscription, owner: found?.owner, counts: { since, ...outcomes, condition } };
  }
}
