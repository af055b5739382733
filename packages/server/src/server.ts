import { randomUUID } from 'node:crypto';
import { resolve } from 'node:path';
import { type Sign, signerOf, tokenRules, verificationKey } from './auth/token-key.js';
import type { VerificationKey } from './auth/token-verifier.js';
import type { Settings } from './config/settings-table.js';
import { isUnconfigured } from './config/unconfigured.js';
import { listenError, listenOnOtherAddresses } from './http/listen.js';
import type { DemoUser } from './http/routes/demo.js';
import type { Log } from './lib/log.js';
import { EmbeddedPostgres } from './postgres/embedded/embedded-postgres.js';
import { createExampleTables } from './postgres/migrations/example-tables.js';
import { createServices, type Services } from './services/services.js';

export interface ServerOptions {
  readonly log: Log;
  /** Aborts the start: `start` then stops what it has started, and rejects. */
  readonly signal?: AbortSignal;
}

const DEMO_TOKEN_MS = 24 * 3_600_000;
const DEMO_CHANNEL = 'lobby';
/**
 * The part of the shutdown timeout that is reserved for PostgreSQL, in ms; the rest is for closing
 * connections.
 */
const DATABASE_STOP_MS = 4_000;

interface ServerParts {
  readonly settings: Settings;
  readonly log: Log;
  readonly databaseUrl: string;
  readonly sign: Sign | undefined;
  readonly isUnconfigured: boolean;
  readonly services: Services;
  readonly embedded: EmbeddedPostgres | undefined;
}

/** A running server. */
export class RealtimeServer {
  /** Whether the server may show its secrets and ready tokens to the user who started it. */
  readonly isUnconfigured: boolean;
  /** The connection string of PostgreSQL, with its password. */
  readonly databaseUrl: string;
  /** Undefined if only another party can sign tokens. */
  readonly sign: Sign | undefined;
  readonly #settings: Settings;
  readonly #log: Log;
  readonly #services: Services;
  readonly #embedded: EmbeddedPostgres | undefined;
  #cleanup: NodeJS.Timeout | undefined;
  #stopped: Promise<void> | undefined;

  /**
   * Starts a server. Resolves when clients can join or, if `DATABASE_URL` is unavailable, after the first
   * failed attempt; further attempts follow in the background. Throws StartupError for what its operator can
   * fix.
   */
  static async start(settings: Settings, { log, signal }: ServerOptions): Promise<RealtimeServer> {
    const dataDir = resolve(settings.dataDir);
    const nodeEnv = process.env.NODE_ENV;
    const key = await verificationKey(settings, dataDir, nodeEnv);
    warnOfGeneratedSecret(key, dataDir, nodeEnv, log);
    const embedded = settings.databaseUrl === undefined ? new EmbeddedPostgres({ dataDir, log }) : undefined;
    // Creating a cluster takes seconds: an aborted start must not wait for it.
    const stopEmbedded = () => void embedded?.stop();
    signal?.addEventListener('abort', stopEmbedded);
    try {
      const databaseUrl = settings.databaseUrl ?? (await embedded?.start())?.url ?? '';
      signal?.throwIfAborted();
      const context = {
        settings,
        log,
        databaseUrl,
        isUnconfigured: isUnconfigured(settings, nodeEnv),
        embedded,
      };
      const server = await RealtimeServer.#create(context, key);
      await server.#startOrStop(signal);
      return server;
    } catch (error) {
      await embedded?.stop();
      throw error;
    } finally {
      signal?.removeEventListener('abort', stopEmbedded);
    }
  }

  static async #create(
    context: Omit<ServerParts, 'sign' | 'services'>,
    key: VerificationKey,
  ): Promise<RealtimeServer> {
    const rules = tokenRules(context.settings);
    const sign = signerOf(key, rules);
    const newDemoUser = context.isUnconfigured && sign !== undefined ? () => createDemoUser(sign) : undefined;
    const services = await createServices({ ...context, key, tokenRules: rules, newDemoUser });
    return new RealtimeServer({ ...context, sign, services });
  }

  private constructor(parts: ServerParts) {
    this.#settings = parts.settings;
    this.#log = parts.log;
    this.databaseUrl = parts.databaseUrl;
    this.sign = parts.sign;
    this.isUnconfigured = parts.isUnconfigured;
    this.#services = parts.services;
    this.#embedded = parts.embedded;
  }

  /** The port in use, also when REALTIME_PORT is 0. */
  get port(): number {
    const address = this.#services.app.server.address();
    return typeof address === 'object' && address !== null ? address.port : this.#settings.port;
  }

  get metricsPort(): number | undefined {
    return this.#services.metricsListener?.port;
  }

  /** Why PostgreSQL is unavailable; null if it is available. */
  get databaseProblem(): string | null {
    const { state } = this.#services.database;
    return state.status === 'up' ? null : state.reason;
  }

  /**
   * Stops the server within the shutdown timeout: refuses new connections, closes the others with 1012 after
   * their pending messages are flushed, and stops PostgreSQL last. May be called repeatedly.
   */
  stop(): Promise<void> {
    this.#stopped ??= this.#stop();
    return this.#stopped;
  }

  async #startOrStop(signal: AbortSignal | undefined): Promise<void> {
    try {
      await this.#start();
      signal?.throwIfAborted();
    } catch (error) {
      await this.stop();
      throw error;
    }
  }

  async #start(): Promise<void> {
    const { channels, wheel, database, rowChanges } = this.#services;
    wheel.start();
    this.#cleanup = setInterval(() => channels.expire(), this.#settings.cleanupInterval).unref();
    await this.#listen();
    await database.start();
    if (this.#embedded !== undefined) await createExampleTables(database);
    rowChanges?.start();
  }

  async #listen(): Promise<void> {
    const { host, port, metricsPort } = this.#settings;
    const { app, metricsListener } = this.#services;
    try {
      await app.listen({ host, port });
      if (host === 'localhost') await listenOnOtherAddresses(app.server, host);
    } catch (error) {
      throw listenError(error, host, port, 'REALTIME_PORT');
    }
    if (metricsPort !== undefined) await metricsListener?.listen(host, metricsPort);
  }

  async #stop(): Promise<void> {
    const { upgrade, verifier, metricsListener, wheel, rowChanges, database, lifecycle } = this.#services;
    lifecycle.stopping = true;
    clearInterval(this.#cleanup);
    upgrade.drain();
    verifier.close();
    await this.#closeConnections();
    metricsListener?.close();
    wheel.stop();
    // Row changes first: PostgreSQL does not stop before the readers of its WAL have disconnected.
    await rowChanges?.stop();
    await database.stop();
    await this.#embedded?.stop();
  }

  /** Flushes and closes all connections; after a part of the shutdown timeout, destroys those that remain. */
  async #closeConnections(): Promise<void> {
    const { app, endpoint, tick } = this.#services;
    const { shutdownTimeout } = this.#settings;
    const closed = app.close();
    tick.flush();
    endpoint.closeAll();
    const timeoutMs = Math.max(shutdownTimeout / 2, shutdownTimeout - DATABASE_STOP_MS);
    if (!(await settlesWithin(closed, timeoutMs))) {
      this.#log.warn({}, 'Some clients did not disconnect in time; their connections are destroyed');
      endpoint.destroyAll();
      app.server.closeAllConnections();
    }
    await closed;
  }
}

function warnOfGeneratedSecret(
  key: VerificationKey,
  folder: string,
  nodeEnv: string | undefined,
  log: Log,
): void {
  if (nodeEnv !== 'production' || key.kind !== 'secret' || key.isGenerated !== true) return;
  log.warn(
    { folder },
    'REALTIME_JWT_SECRET is not set: tokens are verified with the generated secret in the data folder, which only this server has',
  );
}

async function createDemoUser(sign: Sign): Promise<DemoUser> {
  const userId = randomUUID();
  return { user_id: userId, token: await sign(userId, 'user', DEMO_TOKEN_MS), channel: DEMO_CHANNEL };
}

async function settlesWithin(promise: Promise<unknown>, ms: number): Promise<boolean> {
  let timer: NodeJS.Timeout | undefined;
  const timedOut = new Promise<false>((resolve) => {
    timer = setTimeout(() => resolve(false), ms);
  });
  const settled = promise.then(() => true as const);
  return Promise.race([settled, timedOut]).finally(() => clearTimeout(timer));
}
