import type { Settings } from '../config/settings-table.js';
import type { Readiness } from '../http/routes/monitoring.js';
import type { DatabaseStats } from '../http/schemas.js';
import type { Counters } from '../metrics/counters.js';
import { Metrics } from '../metrics/metrics.js';
import type { Database } from '../postgres/connection/database.js';
import { POOLS } from '../postgres/connection/pool-sizes.js';
import { serverVersion } from '../version.js';
import type { Messaging } from './messaging.js';
import type { RowChanges } from './row-changes/row-changes.js';
import type { Sockets } from './sockets.js';

export interface MonitoringOptions {
  readonly settings: Pick<Settings, 'enableMetrics'>;
  readonly counters: Counters;
  readonly database: Database;
  readonly messaging: Messaging;
  readonly sockets: Sockets;
  /** Undefined if row changes are turned off. */
  readonly rowChanges: RowChanges | undefined;
  readonly lifecycle: Lifecycle;
  readonly postgresVersion: PostgresVersion;
}

/** `stopping` is true once the server stops; `/readyz` reports it. */
export interface Lifecycle {
  stopping: boolean;
}

/** The version of PostgreSQL (`16.4`), without a packager's suffix. Empty until PostgreSQL is reached. */
export class PostgresVersion {
  value = '';

  async read(database: Database): Promise<void> {
    const [row] = await database.query<{ version: string }>(
      `SELECT current_setting('server_version') AS version`,
    );
    this.value = row?.version.split(' ')[0] ?? '';
  }
}

/** Creates the registry of `/metrics`; undefined if metrics are turned off. */
export function createMetrics(options: MonitoringOptions): Metrics | undefined {
  const { settings, counters, database, messaging, sockets, rowChanges, postgresVersion } = options;
  const { channels, presence } = messaging;
  if (!settings.enableMetrics) return undefined;
  const loaded = () => (channels.loaded ? channels.list() : []);
  return new Metrics(counters, {
    connections: () => sockets.connections.size,
    channels: () => channels.size,
    presenceUsers: () => loaded().reduce((sum, channel) => sum + presence.count(channel), 0),
    databaseUp: () => database.state.status === 'up',
    databasePools: () => database.poolUses(),
    build: () => ({
      version: serverVersion(),
      node: process.versions.node,
      postgres: postgresVersion.value,
    }),
    rowChanges: rowChanges && (() => rowChanges.status.numbers()),
  });
}

/** Returns what `/readyz` reports. Clients can join once the channels are loaded, until the server stops. */
export function readiness({ lifecycle, messaging, database, rowChanges }: MonitoringOptions): Readiness {
  const { loaded } = messaging.channels;
  return {
    ready: loaded && !lifecycle.stopping,
    parts: {
      server: { status: lifecycle.stopping ? 'stopping' : 'running' },
      channels: { status: loaded ? 'loaded' : 'loading' },
      database: database.state,
      ...(database.state.status === 'up'
        ? { database_connections: connectionState(database.poolUses()) }
        : {}),
      ...(rowChanges === undefined ? {} : { row_changes: rowChanges.status.readiness() }),
    },
  };
}

/** Returns how the pools are used: `busy` while one of them has no free connection. */
function connectionState(uses: ReturnType<Database['poolUses']>): { status: string; reason: string } {
  const isBusy = uses.some(([name, { inUse }]) => inUse >= POOLS[name].connections);
  const texts = uses.map(
    ([name, { inUse, abandoned }]) =>
      `${name} ${inUse} of ${POOLS[name].connections}${abandoned === 0 ? '' : `, ${abandoned} abandoned`}`,
  );
  return { status: isBusy ? 'busy' : 'available', reason: `in use: ${texts.join('; ')}` };
}

/** Returns the `database` part of `GET /realtime/stats`. */
export function databaseStats(rowChanges: RowChanges, counters: Counters): DatabaseStats {
  const numbers = rowChanges.status.numbers();
  return {
    source: rowChanges.sourceKind,
    status: rowChanges.status.readiness().status,
    tables: numbers.tables,
    subscriptions: numbers.subscriptions,
    lag_bytes: numbers.lagBytes,
    lag_seconds: numbers.lagSeconds,
    retained_bytes: numbers.retainedBytes,
    xmin_age: numbers.xminAge,
    window_bytes: numbers.windowMemoryBytes + numbers.windowFileBytes,
    changes_read: counters.changesRead,
    changes_judged: counters.rowsEvaluated,
    changes_delivered: counters.changesDelivered,
    changes_refused: counters.changesFiltered,
    errors: counters.changeErrors,
  };
}
