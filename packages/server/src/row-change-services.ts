import { join, resolve } from 'node:path';
import { Delivery } from './changes/delivery/delivery.js';
import { MemberFeeds } from './changes/delivery/member-feeds.js';
import { Explainer, type ExplainRequest, type Explanation } from './changes/explaining/explainer.js';
import { PastChanges } from './changes/explaining/past-changes.js';
import { SubscriptionReports } from './changes/explaining/subscription-reports.js';
import { type RoleTier, TIERS, type Tier, tiersOf } from './changes/explaining/tiers.js';
import { ChangeLog } from './changes/log/change-log.js';
import { ResumeLog } from './changes/log/resume-log.js';
import { SqlMessages } from './changes/log/sql-messages.js';
import { WindowFile } from './changes/log/window-file.js';
import { Viewers } from './changes/model/viewer.js';
import { BatchRouter } from './changes/routing/batch-router.js';
import { ChangeEncoder } from './changes/routing/change-encoder.js';
import { Recipients } from './changes/routing/recipients.js';
import { TableViews } from './changes/routing/table-views.js';
import { PersonalChanges } from './changes/stream/personal-changes.js';
import { Replays } from './changes/stream/replays.js';
import { RowChangeStream } from './changes/stream/row-change-stream.js';
import { SnapshotReader } from './changes/stream/snapshot-reader.js';
import { ChangeCounts } from './changes/subscriptions/change-counts.js';
import { PersonalSubscriptions } from './changes/subscriptions/personal-subscriptions.js';
import { PostgresSubscriptionStore } from './changes/subscriptions/postgres-subscription-store.js';
import { SubscriptionPreparation } from './changes/subscriptions/subscription-preparation.js';
import { SubscriptionRegistry } from './changes/subscriptions/subscription-registry.js';
import { TableFilter } from './changes/tables/table-filter.js';
import { TableRegistry } from './changes/tables/table-registry.js';
import { ValueFormats } from './changes/values/value-formats.js';
import { checkCondition } from './changes/visibility/check-condition.js';
import { EvaluationErrorLog } from './changes/visibility/evaluating/evaluation-error-log.js';
import { PostgresAuthorizer } from './changes/visibility/evaluating/postgres-authorizer.js';
import type { ChannelRegistry } from './channels/channel-registry.js';
import type { MessageEncoder } from './channels/message-encoder.js';
import type { Settings } from './config/settings-table.js';
import { textFrame } from './connections/frame.js';
import type { Clock } from './lib/clock.js';
import { IdSource } from './lib/ids.js';
import type { Log } from './lib/log.js';
import type { Counters } from './metrics/counters.js';
import type { RowChangeNumbers } from './metrics/metrics.js';
import { ChosenSource, SourceChoice, type SourceKind } from './postgres/choice/source-choice.js';
import { StaleSourceCleanup } from './postgres/choice/stale-source-cleanup.js';
import type { Database } from './postgres/connection/database.js';
import type { PreflightNames } from './postgres/preflight/preflight-facts.js';
import { hasOurTriggers } from './postgres/preflight/trigger-conditions.js';
import { ReplicationSource } from './postgres/replication/replication-source.js';
import { isPublished } from './postgres/replication/slot.js';
import { TriggerSource } from './postgres/triggers/trigger-source.js';

export interface RowChangeOptions {
  readonly settings: Settings;
  readonly databaseUrl: string;
  readonly database: Database;
  readonly channels: ChannelRegistry;
  readonly encoder: MessageEncoder;
  readonly counters: Counters;
  readonly clock: Clock;
  readonly log: Log;
}

/** How many bytes of changes may wait for members. */
const CHANGE_LOG_BYTES = 64 * 1024 * 1024;
/** How often new partitions are looked for, in ms. */
const ADOPT_MS = 10_000;
/** How many bytes of changes are kept in memory for who comes back; the rest of the window is in files. */
const RESUME_MEMORY_BYTES = 64 * 1024 * 1024;
const RESUME_FILE_BYTES = 2 * 1024 ** 3;
const EPOCH_LENGTH = 8;

/** Everything that row changes take, from the log to the members, as one part of the server. */
export class RowChangeServices {
  readonly tables: TableRegistry;
  readonly subscriptions: SubscriptionRegistry;
  readonly reports: SubscriptionReports;
  readonly viewers: Viewers;
  readonly stream: RowChangeStream;
  readonly personal: PersonalChanges;
  readonly #choice: SourceChoice;
  readonly #rivalRemains: StaleSourceCleanup;
  readonly #authorizer: PostgresAuthorizer;
  readonly #replayAuthorizer: PostgresAuthorizer;
  readonly #resumeLog: ResumeLog;
  readonly #replays: Replays;
  readonly #feeds: MemberFeeds;
  readonly #windowFile: WindowFile;
  readonly #messages: SqlMessages;
  /** Whether anybody is to hear of changes of this table. */
  readonly #isWanted: (oid: number) => boolean;
  readonly #changes: ChangeLog;
  readonly #enableRls: boolean;
  readonly #dbRoles: readonly string[];
  readonly #explainer: Explainer;
  /** How many tables are judged in which tier, for the default role. */
  #tierCounts: ReadonlyMap<Tier, number> = new Map();
  readonly #log: Log;
  #adoption: NodeJS.Timeout | undefined;

  constructor(options: RowChangeOptions) {
    const { settings, database, channels, encoder, counters, clock, log } = options;
    this.#log = log;
    this.#enableRls = settings.enableRls;
    this.#dbRoles = settings.dbRoles;
    this.viewers = new Viewers(settings.dbRoles);
    const isStreamed = () =>
      this.sourceKind === 'trigger' ? hasOurTriggers(database.schema) : isPublished(settings.publicationName);
    const evaluation = {
      database,
      enableRls: settings.enableRls,
      clock,
      errorLog: new EvaluationErrorLog(log, clock),
    };
    const authorizer = new PostgresAuthorizer({ ...evaluation, isStreamed });
    this.#authorizer = authorizer;
    // Who catches up is judged beside what is live, so that the one does not wait for the other.
    const replayAuthorizer = new PostgresAuthorizer(evaluation, authorizer);
    this.#replayAuthorizer = replayAuthorizer;
    const ids = new IdSource();
    this.#windowFile = new WindowFile(join(resolve(settings.dataDir), 'resume-window'), ids.random(12));
    const filter = new TableFilter(settings.filterTables, settings.excludeTables);
    const names = (): PreflightNames => ({
      slot: settings.replicationSlot,
      publication: settings.publicationName,
      schema: database.schema,
      dbRoles: settings.dbRoles,
      enableRls: settings.enableRls,
    });
    const choice = new SourceChoice({ wanted: settings.changeSource, database, names, log });
    this.#choice = choice;
    this.tables = new TableRegistry(database, settings.publicationName, filter, choice, settings);
    this.#rivalRemains = new StaleSourceCleanup({
      database,
      slot: settings.replicationSlot,
      dropTriggers: () => this.tables.switchSource('logical'),
      log,
    });
    const personal = new PersonalSubscriptions();
    this.#isWanted = (oid) => subscriptions.isSubscribed(oid) || personal.isSubscribed(oid);
    const preparation = new SubscriptionPreparation({
      tables: this.tables,
      authorizer,
      checkCondition: (table, role, text) => checkCondition(database, table, role, text),
    });
    const counts = new ChangeCounts(clock);
    const store = new PostgresSubscriptionStore(database);
    const subscriptions = new SubscriptionRegistry({ store, preparation, counts, clock, log });
    this.subscriptions = subscriptions;
    this.reports = new SubscriptionReports({ shared: subscriptions, personal, counts });
    this.#messages = new SqlMessages({
      database,
      enabled: settings.enableBroadcast,
      maxBytes: settings.maxMessageSize,
      frame: textFrame,
      counters,
    });
    const resumeLog = new ResumeLog({
      maxBytes: RESUME_MEMORY_BYTES,
      // A transaction that is still being read may be larger than the window.
      maxFileBytes: Math.max(RESUME_FILE_BYTES, 2 * settings.resumeWindowBytes),
      file: this.#windowFile,
      log,
    });
    this.#resumeLog = resumeLog;
    const views = new TableViews(replayAuthorizer, new ValueFormats(database));
    this.#explainer = new Explainer({
      database,
      // Beside what is live, which does not wait for it.
      authorizer: replayAuthorizer,
      viewers: this.viewers,
      past: new PastChanges({
        resumeLog,
        authorizer: replayAuthorizer,
        views,
        epoch: () => this.stream.epoch,
      }),
      inspect: (schema, table) => this.tables.inspect(schema, table),
      reachability: (oid) => this.tables.reachability(oid),
      checkCondition: (table, role, text) => checkCondition(database, table, role, text),
    });
    const changes = new ChangeLog({
      maxBytes: CHANGE_LOG_BYTES,
      isSubscribed: (oid) => this.#isWanted(oid) || authorizer.isMembershipTable(oid),
      forget: (lsn) => this.stream.forget(lsn),
      counters,
    });
    this.#changes = changes;
    const channel = (name: string) => channels.find(name);
    const feeds = new MemberFeeds(clock);
    const delivery = new Delivery({ feeds, encoder, counters, clock });
    const routerOf = (judge: PostgresAuthorizer) => {
      const formats = new ValueFormats(database);
      return new BatchRouter({
        authorizer: judge,
        personal,
        messages: this.#messages,
        views: new TableViews(judge, formats),
        formats,
        encoder: new ChangeEncoder(textFrame),
        subscriptions,
        channel,
        counters,
      });
    };
    const newRecipients = () => new Recipients({ viewers: this.viewers, personal, subscriptions });
    const recipients = newRecipients();
    personal.onChange((owner) => recipients.update(owner));
    this.#feeds = feeds;
    this.#replays = new Replays({
      resumeLog,
      router: routerOf(replayAuthorizer),
      newRecipients,
      delivery,
      feeds,
      epoch: () => this.stream.epoch,
      isBehindCurrentBatch: (position) => this.stream.isBehindCurrentBatch(position),
      tablesOf: (of) => this.stream.tablesOf(of),
      ownTablesOf: (member) => personal.tablesOf(member),
      log,
    });
    const reading = {
      url: options.databaseUrl,
      database,
      window: { ms: settings.resumeWindow, bytes: settings.resumeWindowBytes },
      maxReconnectDelayMs: settings.maxReconnectDelay,
      newEpoch: () => ids.random(EPOCH_LENGTH),
      log,
    };
    const logical = new ReplicationSource({
      ...reading,
      slot: settings.replicationSlot,
      publication: settings.publicationName,
      dbRoles: settings.dbRoles,
      enableRls: settings.enableRls,
      heartbeatMs: settings.heartbeatInterval,
      walLimitAction: settings.walLimitAction,
    });
    const trigger = new TriggerSource({
      ...reading,
      names,
      prepareTables: () => this.tables.switchSource('trigger'),
    });
    this.stream = new RowChangeStream({
      source: new ChosenSource({
        choice,
        logical,
        trigger,
        cleanUp: (kind) => this.#rivalRemains.cleanUp(kind),
        log,
      }),
      changes,
      router: routerOf(authorizer),
      recipients,
      isMembershipTable: (oid) => authorizer.isMembershipTable(oid),
      feeds,
      delivery,
      resumeLog,
      replays: this.#replays,
      personal,
      subscriptions,
      counts,
      channel,
      counters,
      log,
    });
    this.personal = new PersonalChanges({
      subscriptions: personal,
      preparation,
      counts,
      authorizer,
      viewers: this.viewers,
      reader: new SnapshotReader({
        database,
        enableRls: settings.enableRls,
        errorLog: evaluation.errorLog,
        isRead: (xid) => changes.hasRead(xid),
      }),
      delivery,
      encoder,
      stream: this.stream,
      clock,
    });
    this.tables.onChange((table, event) => void this.#tableChanged(table.oid, event));
    channels.onDeleted((name) => void this.#channelDeleted(name));
  }

  /** Reads what is kept; called each time that the database is there (again). */
  async load(): Promise<void> {
    await this.tables.load();
    await this.subscriptions.load();
    await this.#messages.load();
  }

  start(): void {
    if (!this.#enableRls)
      this.#log.warn({}, 'REALTIME_ENABLE_RLS is false: row policies are not applied to row changes');
    this.#authorizer.start();
    this.subscriptions.start();
    this.stream.start();
    const adopt = () => {
      void this.#countTiers().catch((error: unknown) => this.#failed(error));
      void this.tables.setPartitionIdentities().catch((error: unknown) => this.#failed(error));
      void this.#rivalRemains.retry();
    };
    this.#adoption = setInterval(adopt, ADOPT_MS).unref();
  }

  async stop(): Promise<void> {
    clearInterval(this.#adoption);
    await this.stream.stop();
    await this.subscriptions.stop();
    this.#authorizer.stop();
    this.#replayAuthorizer.stop();
    this.#windowFile.close();
  }

  /** Why somebody gets a row, or does not. */
  explain(request: ExplainRequest): Promise<Explanation> {
    return this.#explainer.explain(request);
  }

  /** How rows of a table are judged, for each role that may be asked for. */
  tiers(oid: number): Promise<readonly RoleTier[]> {
    return tiersOf(this.#authorizer, oid, this.#dbRoles);
  }

  /** How changes are read; before that is decided, as they usually are. */
  get sourceKind(): SourceKind {
    return this.#choice.kind ?? 'logical';
  }

  /** The numbers of the stream, for metrics. */
  numbers(): RowChangeNumbers {
    const { state, stats } = this.stream.source;
    return {
      isStreaming: state.status === 'streaming',
      lagBytes: stats.lagBytes,
      lagSeconds: stats.lagSeconds,
      retainedBytes: stats.retainedBytes,
      xminAge: stats.xminAge,
      logBytes: this.#changes.bytes,
      membersBehind: this.#feeds.behind,
      membersResuming: this.#replays.size,
      windowMemoryBytes: this.#resumeLog.bytes.memory,
      windowFileBytes: this.#resumeLog.bytes.file,
      subscriptions: this.subscriptions.size,
      tables: this.tables.list().length,
      tiers: TIERS.map((tier) => [tier, this.#tierCounts.get(tier) ?? 0] as const),
    };
  }

  /** The state of the stream, for `/readyz`. */
  get readiness(): { status: string; reason?: string } {
    const { state } = this.stream.source;
    if (state.status === 'down') return { status: state.status, reason: state.reason };
    if (state.status !== 'refused') return { status: state.status };
    const reason = state.findings.map(({ code, title }) => `${code} ${title}`).join('; ');
    return { status: state.status, reason };
  }

  /** Members of channels that wait for its changes are told that there is a hole before and behind. */
  async #tableChanged(oid: number, event: 'enabled' | 'disabled'): Promise<void> {
    this.#authorizer.forgetAll();
    const hadSubscribers = this.#isWanted(oid);
    try {
      await this.#countTiers();
      await this.subscriptions.refresh();
      // Whoever is away now cannot be told with the others.
      if (event === 'enabled' && hadSubscribers) await this.stream.markMissed(oid);
    } catch (error) {
      this.#failed(error);
    }
    if (!hadSubscribers) return;
    const reason = event === 'enabled' ? 'the table is set up again' : 'the table was taken out';
    this.stream.announce({ event: 'gap', payload: { scope: 'changes', reason }, tables: [oid] });
  }

  async #countTiers(): Promise<void> {
    const counts = new Map<Tier, number>();
    for (const { oid } of this.tables.list()) {
      const [tier] = await tiersOf(this.#authorizer, oid, []);
      if (tier !== undefined) counts.set(tier.tier, (counts.get(tier.tier) ?? 0) + 1);
    }
    this.#tierCounts = counts;
  }

  async #channelDeleted(name: string): Promise<void> {
    try {
      await this.subscriptions.endOf(name);
    } catch (error) {
      this.#failed(error);
    }
  }

  #failed(error: unknown): void {
    this.#log.warn({ err: error }, 'Something about row changes could not be done; it is tried again');
  }
}
