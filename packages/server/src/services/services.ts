import { RefusalLog } from '../auth/refusal-log.js';
import { type TokenRules, TokenVerifier, type VerificationKey } from '../auth/token-verifier.js';
import type { ChannelRegistry } from '../channels/channel-registry.js';
import type { Settings } from '../config/settings-table.js';
import type { WebSocketEndpoint } from '../connections/websocket-endpoint.js';
import type { MetricsListener } from '../http/metrics-listener.js';
import type { App } from '../http/route.js';
import type { DemoUser } from '../http/routes/demo.js';
import type { UpgradeHandler } from '../http/upgrade.js';
import { monotonicClock, wallClock } from '../lib/clock.js';
import type { Log } from '../lib/log.js';
import type { Tick } from '../lib/tick.js';
import type { TimerWheel } from '../lib/timer-wheel.js';
import { Counters } from '../metrics/counters.js';
import { Database } from '../postgres/connection/database.js';
import { createHttp, createMetricsListener, type HttpOptions } from './http-server.js';
import { createMessaging } from './messaging.js';
import { createMetrics, type Lifecycle, PostgresVersion } from './monitoring.js';
import type { RowChangeLifecycle } from './row-changes/lifecycle.js';
import { createRowChanges } from './row-changes/row-changes.js';
import { createSockets } from './sockets.js';

export interface ServiceOptions {
  readonly settings: Settings;
  readonly log: Log;
  readonly key: VerificationKey;
  readonly tokenRules: TokenRules;
  readonly databaseUrl: string;
  readonly isUnconfigured: boolean;
  /** Creates users for the page; only if the server is unconfigured. */
  readonly newDemoUser: (() => Promise<DemoUser>) | undefined;
}

/** The services that the server starts, stops or reports. */
export interface Services {
  readonly app: App;
  readonly channels: ChannelRegistry;
  readonly database: Database;
  readonly endpoint: WebSocketEndpoint;
  /** Serves `/metrics` on its own port; undefined if there is none. */
  readonly metricsListener: MetricsListener | undefined;
  /** Undefined if row changes are turned off. */
  readonly rowChanges: RowChangeLifecycle | undefined;
  readonly tick: Tick;
  readonly upgrade: UpgradeHandler;
  readonly verifier: TokenVerifier;
  readonly wheel: TimerWheel;
  readonly lifecycle: Lifecycle;
}

/** Constructs and connects all services of a node; starts nothing. */
export async function createServices(options: ServiceOptions): Promise<Services> {
  const { settings, log, databaseUrl } = options;
  const clock = monotonicClock;
  const counters = new Counters();
  const verifier = new TokenVerifier(options.key, options.tokenRules, log);
  const refusalLog = new RefusalLog(log, clock);
  const postgresVersion = new PostgresVersion();
  const database: Database = new Database({
    url: databaseUrl,
    log,
    maxReconnectDelayMs: settings.maxReconnectDelay,
    onReady: async () => {
      await postgresVersion.read(database);
      await messaging.channels.load();
      await rowChanges?.lifecycle.load();
    },
  });
  const messaging = createMessaging({ settings, database, counters, clock, wallClock, log });
  const { channels, encoder, tick, wheel } = messaging;
  const common = { settings, databaseUrl, database, channels, encoder, counters, clock, wallClock, log };
  const rowChanges = settings.enableDbStreaming ? createRowChanges(common) : undefined;
  const sockets = createSockets({ ...common, messaging, rowChanges, verifier, refusalLog });
  const lifecycle = { stopping: false };
  const parts = { ...common, messaging, sockets, rowChanges, lifecycle, postgresVersion };
  const metrics = createMetrics(parts);
  const { isUnconfigured, newDemoUser } = options;
  const http: HttpOptions = { ...parts, isUnconfigured, newDemoUser, verifier, refusalLog, metrics };
  const { app, upgrade } = await createHttp(http);
  return {
    app,
    channels,
    database,
    endpoint: sockets.endpoint,
    metricsListener: createMetricsListener(http),
    rowChanges: rowChanges?.lifecycle,
    tick,
    upgrade,
    verifier,
    wheel,
    lifecycle,
  };
}
