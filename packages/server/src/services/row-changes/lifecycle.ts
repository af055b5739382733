import type { TierCounts } from '../../changes/explaining/tier-counts.js';
import type { SqlMessages } from '../../changes/log/sql-messages.js';
import type { WindowFile } from '../../changes/log/window-file.js';
import type { RowChangeStream } from '../../changes/stream/row-change-stream.js';
import { TableEvents } from '../../changes/stream/table-events.js';
import type { ChannelRegistry } from '../../channels/channel-registry.js';
import type { Log } from '../../lib/log.js';
import type { StaleSourceCleanup } from '../../postgres/choice/stale-source-cleanup.js';
import type { Snapshots } from './snapshots.js';
import type { Subscriptions } from './subscriptions.js';
import type { Visibility } from './visibility.js';

export interface RowChangeLifecycleParts {
  readonly visibility: Visibility;
  readonly subscriptions: Subscriptions;
  readonly stream: RowChangeStream;
  readonly channels: Pick<ChannelRegistry, 'onDeleted'>;
  readonly cleanup: Pick<StaleSourceCleanup, 'retry'>;
  readonly messages: Pick<SqlMessages, 'load'>;
  readonly windowFile: Pick<WindowFile, 'close'>;
  readonly snapshots: Pick<Snapshots, 'files' | 'sender'>;
  readonly tierCounts: TierCounts;
  readonly enableRls: boolean;
  readonly log: Log;
}

/** Interval between maintenance of partitions, tiers and the stale source, in ms. */
const MAINTENANCE_MS = 10_000;
/** How often slow readers of snapshots are looked for, in ms. */
const SLOW_CHECK_MS = 1_000;

/** Starts and stops row changes, and applies changes of tables and channels to them. */
export class RowChangeLifecycle {
  readonly #parts: RowChangeLifecycleParts;
  #maintenance: NodeJS.Timeout | undefined;
  #slowCheck: NodeJS.Timeout | undefined;

  constructor(parts: RowChangeLifecycleParts) {
    this.#parts = parts;
    const { visibility, subscriptions, stream, channels } = parts;
    const onError = (error: unknown) => this.#logFailure(error);
    const events = new TableEvents({
      authorizer: visibility.live,
      subscriptions: subscriptions.shared,
      stream,
      isSubscribed: subscriptions.isSubscribed,
      onError,
    });
    subscriptions.tables.onChange(({ oid }, event) => {
      void events.changed(oid, event);
      parts.tierCounts.refresh().catch(onError);
    });
    channels.onDeleted((name) => {
      subscriptions.shared.removeChannel(name).catch(onError);
    });
  }

  /** Loads tables, subscriptions and SQL messages. Called each time PostgreSQL becomes reachable. */
  async load(): Promise<void> {
    const { visibility, stream, subscriptions } = this.#parts;
    const { tables, shared } = subscriptions;
    if (await visibility.loadText()) stream.viewersChanged();
    await tables.load();
    await shared.load();
    await this.#parts.messages.load();
  }

  start(): void {
    const { visibility, subscriptions, stream, snapshots, enableRls, log } = this.#parts;
    if (!enableRls) log.warn({}, 'REALTIME_ENABLE_RLS is false: row policies are not applied to row changes');
    visibility.live.start();
    subscriptions.shared.start();
    stream.start();
    void snapshots.files.removeOrphans();
    this.#maintenance = setInterval(() => this.#maintain(), MAINTENANCE_MS).unref();
    this.#slowCheck = setInterval(() => snapshots.sender.closeSlowReaders(), SLOW_CHECK_MS).unref();
  }

  async stop(): Promise<void> {
    const { visibility, subscriptions, stream, snapshots, windowFile } = this.#parts;
    clearInterval(this.#maintenance);
    clearInterval(this.#slowCheck);
    await stream.stop();
    await subscriptions.shared.stop();
    visibility.live.stop();
    visibility.replay.stop();
    windowFile.close();
    await snapshots.files.close();
  }

  #maintain(): void {
    const { tierCounts, subscriptions, cleanup } = this.#parts;
    tierCounts.refresh().catch((error: unknown) => this.#logFailure(error));
    subscriptions.tables.setPartitionIdentities().catch((error: unknown) => this.#logFailure(error));
    void cleanup.retry();
  }

  #logFailure(error: unknown): void {
    this.#parts.log.warn({ err: error }, 'Maintenance of row changes failed; it will be retried');
  }
}
