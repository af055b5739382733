import { randomUUID } from 'node:crypto';
import { resolve } from 'node:path';
import { type Sign, signerOf, tokenRules, verificationKey } from './auth/token-key.js';
import type { Settings } from './config/settings-table.js';
import { isUnconfigured } from './config/unconfigured.js';
import { listenError } from './http/listen.js';
import { MetricsListener } from './http/metrics-listener.js';
import type { DemoUser } from './http/routes/demo.js';
import type { Log } from './lib/log.js';
import { EmbeddedPostgres } from './postgres/embedded/embedded-postgres.js';
import { createExampleTables } from './postgres/migrations/example-tables.js';
import { createServices, type Services } from './services/services.js';

export interface ServerOptions {
  readonly log: Log;
  /** Aborted when whoever starts the server no longer wants it: the start ends at its next step. */
  readonly signal?: AbortSignal;
}

const GENERATED_IN_PRODUCTION =
  'REALTIME_JWT_SECRET is not set: tokens are verified with the secret that the data folder keeps, which only this server knows';
const DEMO_TOKEN_MS = 24 * 3_600_000;
const DEMO_CHANNEL = 'lobby';
/** What PostgreSQL needs of the time that a stop may take; the rest is for connections to read their last bytes. */
const DATABASE_STOP_MS = 4_000;

/** A running server: where it is reached, and its end. */
export class RealtimeServer {
  /** Whether secrets and ready tokens may be shown to whoever started the server. */
  readonly isUnconfigured: boolean;
  /** Where PostgreSQL is, password included. */
  readonly databaseUrl: string;
  /** Undefined where tokens are signed elsewhere, with a key that is not known here. */
  readonly sign: Sign | undefined;
  readonly #settings: Settings;
  readonly #log: Log;
  readonly #services: Services;
  readonly #embedded: EmbeddedPostgres | undefined;
  readonly #metricsListener: MetricsListener | undefined;
  readonly #cleanup: NodeJS.Timeout;
  #stopped: Promise<void> | undefined;

  /**
   * Starts a server and resolves when clients can join, or, where `DATABASE_URL` cannot be reached yet, when
   * the first attempt has failed and others go on. Throws StartupError for what its operator can mend.
   */
  static async start(settings: Settings, options: ServerOptions): Promise<RealtimeServer> {
    const { log, signal } = options;
    const dataDir = resolve(settings.dataDir);
    const nodeEnv = process.env.NODE_ENV;
    const key = await verificationKey(settings, dataDir, nodeEnv);
    if (nodeEnv === 'production' && key.kind === 'secret' && key.isGenerated === true)
      log.warn({ folder: dataDir }, GENERATED_IN_PRODUCTION);
    const embedded = settings.databaseUrl === undefined ? new EmbeddedPostgres({ dataDir, log }) : undefined;
    // Making a cluster takes seconds: whoever no longer wants it need not wait for it.
    const abandon = () => void embedded?.stop();
    signal?.addEventListener('abort', abandon);
    let server: RealtimeServer | undefined;
    try {
      const databaseUrl = settings.databaseUrl ?? (await embedded?.start())?.url ?? '';
      signal?.throwIfAborted();
      const rules = tokenRules(settings);
      const sign = signerOf(key, rules);
      const unconfigured = isUnconfigured(settings, nodeEnv);
      const services = await createServices({
        settings,
        log,
        key,
        tokenRules: rules,
        databaseUrl,
        isUnconfigured: unconfigured,
        newDemoUser: unconfigured && sign !== undefined ? () => newDemoUser(sign) : undefined,
      });
      server = new RealtimeServer({ settings, log, databaseUrl, sign, unconfigured, services, embedded });
      await server.#begin(signal);
      return server;
    } catch (error) {
      await (server === undefined ? embedded?.stop() : server.stop());
      throw error;
    } finally {
      signal?.removeEventListener('abort', abandon);
    }
  }

  private constructor(parts: {
    settings: Settings;
    log: Log;
    databaseUrl: string;
    sign: Sign | undefined;
    unconfigured: boolean;
    services: Services;
    embedded: EmbeddedPostgres | undefined;
  }) {
    this.#settings = parts.settings;
    this.#log = parts.log;
    this.databaseUrl = parts.databaseUrl;
    this.sign = parts.sign;
    this.isUnconfigured = parts.unconfigured;
    this.#services = parts.services;
    this.#embedded = parts.embedded;
    const { metrics, channels } = parts.services;
    const ownPort = parts.settings.metricsPort !== undefined && metrics !== undefined;
    this.#metricsListener = ownPort ? new MetricsListener(metrics) : undefined;
    this.#cleanup = setInterval(() => channels.expire(), parts.settings.cleanupInterval).unref();
  }

  /** The port that it listens on; the one that was free where the setting is 0. */
  get port(): number {
    const address = this.#services.app.server.address();
    return typeof address === 'object' && address !== null ? address.port : this.#settings.port;
  }

  get metricsPort(): number | undefined {
    return this.#metricsListener?.port;
  }

  /** Why the database cannot be reached; null while it can. */
  get databaseProblem(): string | null {
    const { state } = this.#services.database;
    return state.status === 'up' ? null : state.reason;
  }

  /**
   * Takes nothing new, tells every client to come back later (1012), lets them read their last bytes, and
   * stops PostgreSQL last. Resolves within the shutdown timeout.
   */
  stop(): Promise<void> {
    this.#stopped ??= this.#end();
    return this.#stopped;
  }

  async #begin(signal: AbortSignal | undefined): Promise<void> {
    const { host, port, metricsPort } = this.#settings;
    const { app, wheel, database } = this.#services;
    wheel.start();
    try {
      await app.listen({ host, port });
    } catch (error) {
      throw listenError(error, host, port, 'REALTIME_PORT');
    }
    if (metricsPort !== undefined) await this.#metricsListener?.listen(host, metricsPort);
    await database.start();
    if (this.#embedded !== undefined) await createExampleTables(database);
    this.#services.rowChanges?.start();
    signal?.throwIfAborted();
  }

  async #end(): Promise<void> {
    const { app, upgrade, endpoint, tick, wheel, database, lifecycle } = this.#services;
    const { shutdownTimeout } = this.#settings;
    lifecycle.stopping = true;
    clearInterval(this.#cleanup);
    upgrade.drain();
    const closed = app.close();
    tick.flush();
    endpoint.closeAll();
    const patience = Math.max(shutdownTimeout / 2, shutdownTimeout - DATABASE_STOP_MS);
    if (!(await settlesWithin(closed, patience))) {
      this.#log.warn({}, 'Some clients did not leave in time and are cut off');
      endpoint.destroyAll();
      app.server.closeAllConnections();
    }
    await closed;
    this.#metricsListener?.close();
    wheel.stop();
    // Before PostgreSQL: it waits for whoever reads its log.
    await this.#services.rowChanges?.stop();
    await database.stop();
    await this.#embedded?.stop();
  }
}

async function newDemoUser(sign: Sign): Promise<DemoUser> {
  const userId = randomUUID();
  return { user_id: userId, token: await sign(userId, 'user', DEMO_TOKEN_MS), channel: DEMO_CHANNEL };
}

async function settlesWithin(promise: Promise<unknown>, ms: number): Promise<boolean> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<false>((resolve) => {
    timer = setTimeout(() => resolve(false), ms);
  });
  const settled = promise.then(() => true as const);
  return Promise.race([settled, late]).finally(() => clearTimeout(timer));
}
