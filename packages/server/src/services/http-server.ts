import type { RefusalLog } from '../auth/refusal-log.js';
import type { TokenVerifier } from '../auth/token-verifier.js';
import type { Settings } from '../config/settings-table.js';
import { RefusalMemory } from '../connections/refusal-memory.js';
import { createApp } from '../http/app.js';
import { HttpSockets } from '../http/http-sockets.js';
import { MetricsListener } from '../http/metrics-listener.js';
import { OriginRule } from '../http/origin-rule.js';
import { RequestRate } from '../http/request-rate.js';
import type { App } from '../http/route.js';
import type { DemoUser } from '../http/routes/demo.js';
import { SocketLimits } from '../http/socket-limits.js';
import { UpgradeHandler } from '../http/upgrade.js';
import type { Clock } from '../lib/clock.js';
import { IdSource } from '../lib/ids.js';
import type { Log } from '../lib/log.js';
import { KeyedRateLimiter } from '../lib/token-bucket.js';
import type { Metrics } from '../metrics/metrics.js';
import { insertExampleMessage } from '../postgres/migrations/example-tables.js';
import { serverVersion } from '../version.js';
import { databaseStats, type MonitoringOptions, readiness } from './monitoring.js';

export interface HttpOptions extends MonitoringOptions {
  readonly settings: Settings;
  readonly isUnconfigured: boolean;
  /** Creates users for the page; only if the server is unconfigured. */
  readonly newDemoUser: (() => Promise<DemoUser>) | undefined;
  readonly verifier: TokenVerifier;
  readonly refusalLog: RefusalLog;
  readonly metrics: Metrics | undefined;
  readonly clock: Clock;
  readonly log: Log;
}

/** Constructs the HTTP server: its routes, and the upgrade of handshakes to connections. */
export async function createHttp(options: HttpOptions): Promise<{ app: App; upgrade: UpgradeHandler }> {
  const { settings, messaging, sockets, rowChanges, database, counters } = options;
  const { verifier, refusalLog, metrics, newDemoUser, clock, log } = options;
  const { trustedProxies } = settings;
  const ids = new IdSource();
  const origins = new OriginRule(settings.allowedOrigins, options.isUnconfigured);
  const httpSockets = createHttpSockets(options);
  const app = await createApp({
    ...messaging,
    sockets: httpSockets,
    requestRate: new RequestRate(settings.httpRate, trustedProxies, clock),
    origins,
    verifier,
    refusalLog,
    trustedProxies,
    ids,
    connections: sockets.connections,
    pending: sockets.pending,
    messageRate: sockets.messageRate,
    metrics,
    counters,
    clock,
    log,
    version: serverVersion(),
    maxBodyBytes: settings.maxMessageSize,
    enableConsole: settings.enableConsole,
    demo: newDemoUser && {
      newUser: newDemoUser,
      insertMessage: (userId, content) => insertExampleMessage(database, userId, content),
    },
    rowChanges,
    database: rowChanges && (() => databaseStats(rowChanges, counters)),
    readiness: () => readiness(options),
  });
  const upgrade = new UpgradeHandler({
    ...sockets,
    sockets: httpSockets,
    origins,
    trustedProxies,
    connectionRate: new KeyedRateLimiter(settings.connectionRate),
    verifier,
    refusals: new RefusalMemory(clock),
    refusalLog,
    ids,
    counters,
    clock,
    log,
  });
  upgrade.attach(app.server);
  return { app, upgrade };
}

/** Constructs the listener of `/metrics` on its own port; undefined if there is none. */
export function createMetricsListener(options: HttpOptions): MetricsListener | undefined {
  const { settings, metrics, counters, clock } = options;
  if (settings.metricsPort === undefined || metrics === undefined) return undefined;
  const rate = new RequestRate(settings.httpRate, settings.trustedProxies, clock);
  return new MetricsListener({ metrics, sockets: createHttpSockets(options), rate, counters });
}

function createHttpSockets({ settings, messaging, counters, clock, log }: HttpOptions): HttpSockets {
  const sockets = new HttpSockets({ limits: new SocketLimits(settings), counters, clock, log });
  messaging.wheel.schedule(sockets, sockets.due(clock()));
  return sockets;
}
