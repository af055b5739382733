import type { ChangeFilter } from '../model/change-filter.js';
import type { Condition } from '../visibility/authorizer.js';
import type { SubscriptionCounts } from './change-counts.js';

/** Describes which row changes are sent to the members of a channel, or to one connection. */
export interface Subscription {
  readonly id: string;
  readonly channelName: string;
  readonly filter: ChangeFilter;
  /** The user who subscribed, and the database role that the condition was checked as. */
  readonly userId: string;
  readonly role: string;
  readonly createdAt: Date;
  /** Undefined while the table cannot be found. */
  readonly tableOid: number | undefined;
  readonly condition: Condition | null;
  /** The snapshot that the subscription began with, if any. Changes that it saw are not sent again. */
  readonly snapshot?: { sees(xid: number): boolean };
  /** False: nothing is sent, because the table is not enabled or the condition no longer fits the table. */
  readonly active: boolean;
  /** Outcomes of its changes since this server loaded or created the subscription. */
  readonly counts: SubscriptionCounts;
  /** How many changes were sent to at least one member, and when the last one was. */
  readonly messageCount: number;
  readonly lastActivity: Date | null;
}
