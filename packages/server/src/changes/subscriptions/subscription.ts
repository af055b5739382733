import type { ChangeFilter } from '../model/change-filter.js';
import type { Condition } from '../visibility/authorizer.js';
import type { SubscriptionCounts } from './change-counts.js';

/** Which row changes go to the members of a channel. */
export interface Subscription {
  readonly id: string;
  readonly channelName: string;
  readonly filter: ChangeFilter;
  /** Who subscribed the channel, and the database role that the condition was checked as. */
  readonly userId: string;
  readonly role: string;
  readonly createdAt: Date;
  /** Undefined while the table cannot be found. */
  readonly tableOid: number | undefined;
  readonly condition: Condition | null;
  /** Set for one that began with a snapshot: what that saw is not told again. */
  readonly seen?: { sees(xid: number): boolean };
  /** False: nothing is sent, since its table is not opted in, or its condition fits the table no more. */
  readonly active: boolean;
  /** What became of changes since this server knows it. */
  readonly counts: SubscriptionCounts;
  /** Changes that were sent to at least one member, and when the last was. */
  readonly messageCount: number;
  readonly lastActivity: Date | null;
}
