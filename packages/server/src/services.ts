import { type TokenRules, TokenVerifier, type VerificationKey } from './auth/token-verifier.js';
import { Broadcaster } from './channels/broadcaster.js';
import { ChannelRegistry } from './channels/channel-registry.js';
import { MessageEncoder } from './channels/message-encoder.js';
import { Permissions } from './channels/permissions.js';
import { PostgresChannelStore } from './channels/postgres-channel-store.js';
import type { Settings } from './config/settings-table.js';
import { ConnectionRegistry } from './connections/connection-registry.js';
import { textFrame } from './connections/frame.js';
import { RefusalMemory } from './connections/refusal-memory.js';
import { WebSocketEndpoint } from './connections/websocket-endpoint.js';
import { Join } from './handlers/join.js';
import { MessageDispatch } from './handlers/message-dispatch.js';
import { createApp } from './http/app.js';
import { OriginRule } from './http/origin-rule.js';
import type { App } from './http/route.js';
import type { DemoUser } from './http/routes/demo.js';
import type { Readiness } from './http/routes/monitoring.js';
import type { DatabaseStats } from './http/schemas.js';
import { UpgradeHandler } from './http/upgrade.js';
import { IdSource } from './lib/ids.js';
import type { Log } from './lib/log.js';
import { Tick } from './lib/tick.js';
import { TimerWheel } from './lib/timer-wheel.js';
import { KeyedRateLimiter } from './lib/token-bucket.js';
import { Counters } from './metrics/counters.js';
import { Metrics } from './metrics/metrics.js';
import { Database } from './postgres/connection/database.js';
import { insertExampleMessage } from './postgres/migrations/example-tables.js';
import { PresenceTracker } from './presence/presence-tracker.js';
import { RowChangeServices } from './row-change-services.js';
import { serverVersion } from './version.js';

export interface ServiceOptions {
  readonly settings: Settings;
  readonly log: Log;
  readonly key: VerificationKey;
  readonly tokenRules: TokenRules;
  readonly databaseUrl: string;
  readonly isUnconfigured: boolean;
  /** Makes users for the page; only where the server is unconfigured. */
  readonly newDemoUser: (() => Promise<DemoUser>) | undefined;
}

/** What has a life of its own, or is asked about from outside. */
export interface Services {
  readonly app: App;
  readonly channels: ChannelRegistry;
  readonly database: Database;
  readonly endpoint: WebSocketEndpoint;
  readonly metrics: Metrics | undefined;
  /** Undefined where row changes are turned off. */
  readonly rowChanges: RowChangeServices | undefined;
  readonly tick: Tick;
  readonly upgrade: UpgradeHandler;
  readonly wheel: TimerWheel;
  /** Set when the server begins to stop; `/readyz` tells. */
  readonly life: { stopping: boolean };
}

/** Constructs every service of one node and connects them; starts nothing. */
export async function createServices(options: ServiceOptions): Promise<Services> {
  const { settings, log, newDemoUser } = options;
  const clock = Date.now;
  const counters = new Counters();
  const tick = new Tick((error) => log.error({ err: error }, 'What gathered in a turn could not be sent'));
  const wheel = new TimerWheel((error) => log.error({ err: error }, 'What was due could not be done'), clock);
  const encoder = new MessageEncoder(textFrame, clock);
  const permissions = new Permissions(settings.adminRoles);
  const verifier = new TokenVerifier(options.key, options.tokenRules, log);

  const database: Database = new Database({
    url: options.databaseUrl,
    log,
    maxReconnectDelayMs: settings.maxReconnectDelay,
    onReady: async () => {
      await channels.load();
      await rowChanges?.load();
    },
  });
  const channels = new ChannelRegistry(settings, new PostgresChannelStore(database), {
    tick,
    counters,
    clock,
  });
  const rowChanges = settings.enableDbStreaming
    ? new RowChangeServices({
        settings,
        databaseUrl: options.databaseUrl,
        database,
        channels,
        encoder,
        counters,
        clock,
        log,
      })
    : undefined;
  const broadcaster = new Broadcaster({
    permissions,
    encoder,
    counters,
    clock,
    enabled: settings.enableBroadcast,
  });
  const presence = new PresenceTracker({
    enabled: settings.enablePresence,
    leaseMs: settings.connectionTimeout,
    encoder,
    tick,
    wheel,
    clock,
  });

  const messageRate = new KeyedRateLimiter(settings.messageRate);
  const connections = new ConnectionRegistry(settings);
  const facts = {
    pingIntervalMs: settings.pingInterval,
    maxMessageBytes: settings.maxMessageSize,
    messageRate: settings.messageRate.perSecond,
  };
  const join = new Join({ channels, permissions, presence, rowChanges: rowChanges?.stream, facts });
  const environment = {
    clock,
    tick,
    wheel,
    encoder,
    dispatch: new MessageDispatch({ join, broadcaster, verifier, permissions, presence, rowChanges }),
    messageRate,
    counters,
    log,
    pingIntervalMs: settings.pingInterval,
    timeoutMs: settings.connectionTimeout,
    maxOutboxBytes: settings.maxOutbox,
  };
  const endpoint = new WebSocketEndpoint(settings.maxMessageSize, environment, connections);

  const listed = () => (channels.loaded ? channels.list() : []);
  const metrics = settings.enableMetrics
    ? new Metrics(counters, {
        connections: () => connections.size,
        channels: () => channels.size,
        presenceUsers: () => listed().reduce((sum, channel) => sum + presence.count(channel), 0),
        databaseUp: () => database.state.status === 'up',
        rowChanges: rowChanges === undefined ? undefined : () => rowChanges.numbers(),
      })
    : undefined;
  const life = { stopping: false };
  const origins = new OriginRule(settings.allowedOrigins, options.isUnconfigured);
  const app = await createApp({
    origins,
    verifier,
    permissions,
    channels,
    connections,
    presence,
    broadcaster,
    messageRate,
    metrics,
    counters,
    clock,
    log,
    version: serverVersion(),
    maxBodyBytes: settings.maxMessageSize,
    demo: newDemoUser && {
      newUser: newDemoUser,
      insertMessage: (userId, content) => insertExampleMessage(database, userId, content),
    },
    rowChanges,
    database: rowChanges === undefined ? undefined : () => databaseStats(rowChanges, counters),
    readiness: () => readiness(life, channels, database, rowChanges),
  });
  const upgrade = new UpgradeHandler({
    origins,
    trustedProxies: settings.trustedProxies,
    connectionRate: new KeyedRateLimiter(settings.connectionRate),
    verifier,
    join,
    connections,
    refusals: new RefusalMemory(clock),
    endpoint,
    ids: new IdSource(),
    counters,
    clock,
    log,
  });
  upgrade.attach(app.server);
  return { app, channels, database, endpoint, metrics, rowChanges, tick, upgrade, wheel, life };
}

function databaseStats(rowChanges: RowChangeServices, counters: Counters): DatabaseStats {
  const numbers = rowChanges.numbers();
  return {
    source: rowChanges.sourceKind,
    status: rowChanges.readiness.status,
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

function readiness(
  life: { stopping: boolean },
  channels: ChannelRegistry,
  database: Database,
  rowChanges: RowChangeServices | undefined,
): Readiness {
  return {
    ready: channels.loaded && !life.stopping,
    parts: {
      server: { status: life.stopping ? 'stopping' : 'running' },
      channels: { status: channels.loaded ? 'loaded' : 'loading' },
      database: database.state,
      ...(rowChanges === undefined ? {} : { row_changes: rowChanges.readiness }),
    },
  };
}
