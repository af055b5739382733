import { ProtocolError } from '@goforward/realtime-protocol';
import type { ReceivedCounts } from '../../changes/delivery/received-counts.js';
import type { ExplainRequest, Explanation } from '../../changes/explaining/explainer.js';
import type { SubscriptionReports } from '../../changes/explaining/subscription-reports.js';
import type { RoleTier } from '../../changes/explaining/tiers.js';
import type { Viewers } from '../../changes/model/viewer.js';
import type { SubscriptionRegistry } from '../../changes/subscriptions/subscription-registry.js';
import type { TableRegistry } from '../../changes/tables/table-registry.js';
import type { ChannelRegistry } from '../../channels/channel-registry.js';
import type { Permissions } from '../../channels/permissions.js';

/** The services behind the routes of row changes. */
export interface RowChangeParts {
  readonly tables: TableRegistry;
  readonly subscriptions: SubscriptionRegistry;
  readonly reports: SubscriptionReports;
  /** What each user's own connections have received. */
  readonly received: Pick<ReceivedCounts, 'of'>;
  readonly viewers: Viewers;
  /** Returns how the policies of a table are evaluated, for each role. */
  tiers(oid: number): Promise<readonly RoleTier[]>;
  explain(request: ExplainRequest, signal: AbortSignal): Promise<Explanation>;
  /** The change source in use. */
  readonly sourceKind: 'logical' | 'trigger';
}

export interface ChangeRouteParts {
  readonly channels: ChannelRegistry;
  readonly permissions: Permissions;
  /** Undefined if REALTIME_ENABLE_DB_STREAMING is false: every route then answers FEATURE_DISABLED. */
  readonly rowChanges: RowChangeParts | undefined;
}

/** Returns the services of row changes, or throws FEATURE_DISABLED. */
export function requireRowChanges(rowChanges: RowChangeParts | undefined): RowChangeParts {
  if (rowChanges === undefined)
    throw new ProtocolError('FEATURE_DISABLED', { fields: { feature: 'db_streaming' } });
  return rowChanges;
}
