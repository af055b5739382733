import type { RefusalLog } from '../auth/refusal-log.js';
import type { TokenVerifier } from '../auth/token-verifier.js';
import type { Settings } from '../config/settings-table.js';
import { RefusalMemory } from '../connections/refusal-memory.js';
import { createApp } from '../http/app.js';
import { OriginRule } from '../http/origin-rule.js';
import type { App } from '../http/route.js';
import type { DemoUser } from '../http/routes/demo.js';
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
  const app = await createApp({
    ...messaging,
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
