import type { ReceivedCounts } from '../../changes/delivery/received-counts.js';
import type { ExplainRequest, Explanation } from '../../changes/explaining/explainer.js';
import { SubscriptionReports } from '../../changes/explaining/subscription-reports.js';
import { TierCounts } from '../../changes/explaining/tier-counts.js';
import { type RoleTier, tiersOf } from '../../changes/explaining/tiers.js';
import { SqlMessages } from '../../changes/log/sql-messages.js';
import type { Viewers } from '../../changes/model/viewer.js';
import type { PersonalChanges } from '../../changes/stream/personal-changes.js';
import type { RowChangeStream } from '../../changes/stream/row-change-stream.js';
import type { SubscriptionRegistry } from '../../changes/subscriptions/subscription-registry.js';
import type { TableRegistry } from '../../changes/tables/table-registry.js';
import type { ChannelRegistry } from '../../channels/channel-registry.js';
import type { MessageEncoder } from '../../channels/message-encoder.js';
import type { Settings } from '../../config/settings-table.js';
import { textFrame } from '../../connections/frame.js';
import type { Clock, WallClock } from '../../lib/clock.js';
import { IdSource } from '../../lib/ids.js';
import type { Log } from '../../lib/log.js';
import type { Counters } from '../../metrics/counters.js';
import { SourceChoice, type SourceKind } from '../../postgres/choice/source-choice.js';
import type { Database } from '../../postgres/connection/database.js';
import { createExplainer } from './explaining.js';
import { RowChangeLifecycle } from './lifecycle.js';
import { createResumeWindow } from './resume.js';
import { createRouting } from './routing.js';
import { createSnapshots } from './snapshots.js';
import { createSource, preflightNames } from './source.js';
import { RowChangeStatus } from './status.js';
import { createPersonalChanges, createStream } from './stream.js';
import { createSubscriptions } from './subscriptions.js';
import { createVisibility } from './visibility.js';

export interface RowChangeOptions {
  readonly settings: Settings;
  readonly databaseUrl: string;
  readonly database: Database;
  readonly channels: ChannelRegistry;
  readonly encoder: MessageEncoder;
  readonly counters: Counters;
  readonly clock: Clock;
  readonly wallClock: WallClock;
  readonly log: Log;
}

/** The row changes of a server: the services that routes and handlers use, and their lifecycle. */
export interface RowChanges {
  readonly tables: TableRegistry;
  readonly subscriptions: SubscriptionRegistry;
  readonly reports: SubscriptionReports;
  /** What each user's own connections have received. */
  readonly received: ReceivedCounts;
  readonly viewers: Viewers;
  readonly stream: RowChangeStream;
  readonly personal: PersonalChanges;
  /** `logical` until the source is chosen. */
  readonly sourceKind: SourceKind;
  /** Returns how the policies of a table are evaluated, for each role of subscribers. */
  tiers(oid: number): Promise<readonly RoleTier[]>;
  explain(request: ExplainRequest, signal: AbortSignal): Promise<Explanation>;
  readonly lifecycle: RowChangeLifecycle;
  readonly status: RowChangeStatus;
}

/** Constructs and connects the services of row changes, from the source to the members; starts nothing. */
export function createRowChanges(options: RowChangeOptions): RowChanges {
  const { settings, database, channels, counters, clock, wallClock, log } = options;
  const ids = new IdSource();
  const names = () => preflightNames(settings, database);
  const choice = new SourceChoice({ configured: settings.changeSource, database, names, log });
  const sourceKind = () => choice.kind ?? 'logical';
  const visibility = createVisibility({ settings, database, sourceKind, counters, clock, log });
  const subscriptions = createSubscriptions({ settings, database, choice, visibility, wallClock, log });
  const { tables, shared, personal, counts } = subscriptions;
  const { source, cleanup } = createSource({ ...options, choice, tables, ids });
  const { windowFile, resumeLog } = createResumeWindow(settings, ids, log);
  const messages = sqlMessages(options);
  const channel = (name: string) => channels.find(name);
  const routing = createRouting({
    settings,
    database,
    visibility,
    subscriptions,
    messages,
    channel,
    counters,
  });
  const parts = { ...options, source, resumeLog, routing, visibility, subscriptions, channel };
  const stream = createStream(parts);
  const snapshots = createSnapshots({
    ...parts,
    ...stream,
    database: database.pool('replays'),
    ids,
    errorLog: visibility.errorLog,
    isRead: (xid) => stream.changes.hasRead(xid),
  });
  const tierCounts = new TierCounts({ authorizer: visibility.live, tables: () => tables.list() });
  const epoch = () => stream.stream.epoch;
  const explainer = createExplainer({ database, visibility, tables, resumeLog, epoch });
  return {
    tables,
    subscriptions: shared,
    reports: new SubscriptionReports({ shared, personal, counts }),
    received: stream.received,
    viewers: visibility.viewers,
    stream: stream.stream,
    personal: createPersonalChanges({ ...parts, stream, snapshots }),
    get sourceKind() {
      return sourceKind();
    },
    tiers: (oid) => tiersOf(visibility.live, oid, settings.dbRoles),
    explain: (request, signal) => explainer.explain(request, signal),
    lifecycle: new RowChangeLifecycle({
      ...parts,
      stream: stream.stream,
      channels,
      cleanup,
      messages,
      windowFile,
      snapshots,
      tierCounts,
      enableRls: settings.enableRls,
    }),
    status: new RowChangeStatus({
      ...stream,
      resumeLog,
      snapshots,
      subscriptions: shared,
      tables,
      tierCounts,
    }),
  };
}

function sqlMessages({ settings, database, counters, clock, log }: RowChangeOptions): SqlMessages {
  return new SqlMessages({
    database,
    enabled: settings.enableBroadcast,
    maxBytes: settings.maxMessageSize,
    frame: textFrame,
    counters,
    clock,
    log,
  });
}
