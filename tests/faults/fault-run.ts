import { randomUUID } from 'node:crypto';
import { once } from 'node:events';
import { chmod, mkdtemp, rm } from 'node:fs/promises';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import pg from 'pg';
import { WebSocket } from 'ws';
import type { EmbeddedPostgres } from '../../packages/server/src/postgres/embedded/embedded-postgres.js';
import { Random } from '../fuzz/random.js';
import { eventually } from '../support/eventually.js';
import type { ChangeSource, PostgresVersion } from '../support/matrix.js';
import { PostgresProxy } from '../support/postgres-proxy.js';
import { startPreparedPostgres } from '../support/prepared-cluster.js';
import { ServerProcess } from '../support/server-process.js';
import { signClaims } from '../support/tokens.js';
import { check, type Violation } from './checker.js';
import { CheckingClient } from './checking-client.js';
import { atTriggerPositions } from './outbox-truth.js';
import { CommittedChanges } from './truth.js';
import { LEDGER, Writer } from './writers.js';

const ROOT = fileURLToPath(new URL('../..', import.meta.url));
const SECRET = 'a secret for fault tests, thirty-two bytes or more';
const SLOT = 'realtime_slot';
const PUBLICATION = 'realtime_publication';
/** How long clients may take to receive everything after the last fault, in ms. */
const SETTLE_MS = 60_000;

export interface FaultRunOptions {
  readonly seed: number;
  readonly postgres: PostgresVersion;
  /** The server's change source; default `logical`. */
  readonly source?: ChangeSource;
  readonly writers?: number;
  readonly clients?: number;
  /** Average number of changes after which a client drops its connection by itself; 0: never. */
  readonly disconnectEvery?: number;
  readonly env?: Readonly<Record<string, string>>;
}

/** The result of a run. */
export interface Outcome {
  readonly violations: readonly Violation[];
  /** Rows in clients' copies of the table that differ from a SELECT at the end. */
  readonly wrongRows: number;
  readonly committed: number;
  readonly received: number;
  readonly disconnects: number;
  readonly gaps: number;
  readonly recoveries: readonly number[];
}

/** Runs one PostgreSQL, a server, writers and clients, and injects faults into them. */
export class FaultRun {
  readonly random: Random;
  readonly #options: FaultRunOptions;
  readonly users = Array.from({ length: 3 }, () => randomUUID());
  readonly #writers: Writer[] = [];
  readonly #tokens = new Map<string, string>();
  readonly clients: CheckingClient[] = [];
  readonly truth: CommittedChanges;
  readonly url: string;
  /** The connection between the server and PostgreSQL. */
  readonly proxy: PostgresProxy;
  readonly #postgres: EmbeddedPostgres;
  readonly #folder: string;
  readonly #port: number;
  #server: ServerProcess | undefined;
  #follower: ServerProcess | undefined;
  #followerPort = 0;
  /** The port that clients connect to. */
  #clientPort: number;
  kills = 0;

  static async start(options: FaultRunOptions): Promise<FaultRun> {
    const folder = await mkdtemp(join(tmpdir(), 'goforward-faults-'));
    await chmod(folder, 0o755); // when run as root, PostgreSQL's own account needs access
    const { postgres, url } = await startPreparedPostgres(join(folder, 'postgres'), options.postgres);
    const proxy = new PostgresProxy(url);
    await proxy.open();
    const run = new FaultRun(options, { folder, postgres, url, proxy, port: await findFreePort() });
    try {
      await run.#begin();
    } catch (error) {
      await run.stop();
      throw error;
    }
    return run;
  }

  private constructor(
    options: FaultRunOptions,
    parts: { folder: string; postgres: EmbeddedPostgres; url: string; proxy: PostgresProxy; port: number },
  ) {
    this.#options = options;
    this.random = new Random(options.seed);
    this.#folder = parts.folder;
    this.#postgres = parts.postgres;
    this.url = parts.url;
    this.proxy = parts.proxy;
    this.#port = parts.port;
    this.#clientPort = parts.port;
    this.truth = new CommittedChanges(parts.url, 'truth', PUBLICATION);
  }

  async #begin(): Promise<void> {
    const { writers = 2, clients = 6, disconnectEvery = 0 } = this.#options;
    await this.sql(LEDGER);
    // Committed changes are read from the WAL for either source, which needs a publication.
    if (this.#options.source === 'trigger')
      await this.sql(
        `CREATE PUBLICATION ${PUBLICATION} FOR TABLE ledger; ALTER TABLE ledger REPLICA IDENTITY FULL`,
      );
    await this.startServer();
    await this.subscribe('ledger', { table: 'ledger' });
    await this.truth.begin();
    for (const user of this.users)
      this.#tokens.set(user, await signClaims({ sub: user, role: 'user' }, SECRET));
    for (let n = 0; n < clients; n++) {
      const user = this.users[n % this.users.length] ?? '';
      const token = this.#tokens.get(user);
      const client = new CheckingClient({
        name: `client ${n}`,
        user,
        url: () =>
          `ws://127.0.0.1:${this.#clientPort}/realtime/channels/ledger/ws?presence=none&token=${token}`,
        random: new Random(this.random.below(2 ** 31)),
        disconnectEvery,
      });
      this.clients.push(client);
      client.start();
    }
    await this.connected();
    for (let n = 0; n < writers; n++) {
      const writer = new Writer(this.url, n, this.users, new Random(this.random.below(2 ** 31)));
      this.#writers.push(writer);
      writer.start();
    }
  }

  get committed(): number {
    return this.#writers.reduce((sum, { committed }) => sum + committed, 0);
  }

  /** Waits until the writers have committed `count` more transactions. */
  async commits(count: number): Promise<void> {
    const wanted = this.committed + count;
    await eventually(() => requireAtLeast(this.committed, wanted), SETTLE_MS);
  }

  /** Waits until every client is connected. */
  async connected(): Promise<void> {
    await eventually(() => {
      for (const client of this.clients)
        if (!client.isConnected) throw new Error('a client is not connected');
    }, SETTLE_MS);
  }

  async startServer(): Promise<void> {
    this.#server = this.#launch(this.#port);
    await eventually(() => this.streaming(), SETTLE_MS);
  }

  /**
   * Starts a second server on the same slot, which waits as a follower. After `switchOver` clients connect to
   * it.
   */
  async startFollower(): Promise<void> {
    this.#followerPort = await findFreePort();
    this.#follower = this.#launch(this.#followerPort);
    await eventually(async () => {
      const status = await statusOf(this.#followerPort);
      if (status !== 'follower') throw new Error(`the second server is ${status}`);
    }, SETTLE_MS);
  }

  /** Disconnects all clients, which then reconnect to the second server. */
  switchOver(): void {
    this.#clientPort = this.#followerPort;
    for (const client of this.clients) client.disconnect();
  }

  /** Waits until the second server reads row changes; returns how long that took, in ms. */
  async takeover(): Promise<number> {
    const started = performance.now();
    await eventually(async () => {
      const status = await statusOf(this.#followerPort);
      if (status !== 'streaming') throw new Error(`the second server is ${status}`);
    }, SETTLE_MS);
    return performance.now() - started;
  }

  #launch(port: number): ServerProcess {
    return new ServerProcess(process.execPath, [join(ROOT, 'packages/server/dist/cli/main.js'), 'start'], {
      cwd: this.#folder,
      env: {
        DATABASE_URL: this.proxy.url,
        REALTIME_PORT: String(port),
        REALTIME_DATA_DIR: join(this.#folder, `data-${port}`),
        REALTIME_JWT_SECRET: SECRET,
        REALTIME_LOG_LEVEL: 'error',
        REALTIME_MAX_RECONNECT_DELAY: '500ms',
        REALTIME_CONNECTION_RATE: '10000/s, burst 10000',
        REALTIME_REPLICATION_SLOT: SLOT,
        REALTIME_PUBLICATION_NAME: PUBLICATION,
        REALTIME_CHANGE_SOURCE: this.#options.source ?? 'logical',
        ...this.#options.env,
      },
    });
  }

  /** Throws unless the server that clients connect to is reading row changes. */
  async streaming(): Promise<void> {
    const status = await statusOf(this.#clientPort);
    if (status !== 'streaming') throw new Error(`row changes are ${status}`);
  }

  /** Creates a channel and subscribes it to a table. */
  async subscribe(channel: string, filter: object): Promise<void> {
    await this.#call('POST', '/realtime/channels', { name: channel });
    await this.follow(channel, filter);
  }

  /** Subscribes a channel to a table. */
  async follow(channel: string, filter: object): Promise<void> {
    await this.#call('POST', `/realtime/channels/${channel}/subscribe`, filter);
  }

  /** Opens a user's connection and waits until it is a member. With a cursor the connection resumes there. */
  async open(channel: string, user: string, cursor?: string): Promise<WebSocket> {
    const resume = cursor === undefined ? '' : `&cursor=${encodeURIComponent(cursor)}`;
    const token = await signClaims({ sub: user, role: 'user' }, SECRET);
    const url = `ws://127.0.0.1:${this.#port}/realtime/channels/${channel}/ws?presence=none&token=${token}${resume}`;
    const socket = new WebSocket(url);
    await once(socket, 'message');
    return socket;
  }

  /** Returns how many connections the server has closed as slow consumers. */
  async slowConsumers(): Promise<number> {
    return this.#metric('realtime_slow_consumers_total');
  }

  /** Returns how many connections get row changes later than others. */
  async delayedMembers(): Promise<number> {
    return this.#metric('realtime_change_stream_members_delayed');
  }

  async #metric(name: string): Promise<number> {
    const [, value] = new RegExp(`^${name} (\\d+)$`, 'm').exec(await this.#call('GET', '/metrics')) ?? [];
    return Number(value);
  }

  get serverPid(): number {
    return this.#server?.pid ?? 0;
  }

  /** Kills the server with SIGKILL and starts another one. */
  async killServer(): Promise<void> {
    this.kills += 1;
    const server = this.#server;
    server?.kill('SIGKILL');
    await server?.exited;
    await this.startServer();
  }

  /** Sends a signal to PostgreSQL's main process and waits until it has been restarted. */
  async signalPostgres(signal: NodeJS.Signals): Promise<void> {
    const { pid } = this.#postgres;
    if (pid === undefined) throw new Error('PostgreSQL is not running');
    process.kill(pid, signal);
    await eventually(() => {
      if (this.#postgres.pid === pid) throw new Error('PostgreSQL was not restarted');
    }, SETTLE_MS);
    await eventually(() => this.sql('SELECT 1'), SETTLE_MS);
  }

  /** Runs statements as the superuser, without the proxy. */
  async sql<Row extends object>(text: string): Promise<Row[]> {
    const client = new pg.Client({ connectionString: this.url });
    client.on('error', () => undefined);
    await client.connect();
    try {
      return (await client.query<Row>(text)).rows;
    } finally {
      await client.end();
    }
  }

  /** Runs `work` while an open transaction makes PostgreSQL retain WAL. */
  async duringOpenTransaction(work: () => Promise<void>): Promise<void> {
    const client = new pg.Client({ connectionString: this.url });
    await client.connect();
    try {
      await client.query('BEGIN');
      // The lock blocks the writers until the transaction ends.
      await client.query('LOCK TABLE ledger IN EXCLUSIVE MODE');
      await client.query('SELECT txid_current()');
      await work();
      await client.query('COMMIT');
    } finally {
      await client.end();
    }
  }

  /**
   * Stops the writers, waits until every client has everything, and checks what clients received against the
   * commits.
   */
  async outcome(): Promise<Outcome> {
    await Promise.all(this.#writers.map((writer) => writer.stop()));
    // A client that keeps disconnecting would never catch up.
    for (const client of this.clients) client.stayConnected();
    // A last row for each user shows when a client has received everything.
    await this.sql(
      `INSERT INTO ledger SELECT -1, n, u, 'end' FROM unnest(ARRAY['${this.users.join("','")}']::uuid[]) WITH ORDINALITY AS e(u, n)`,
    );
    await eventually(() => {
      for (const client of this.clients) {
        if (![...client.rows.values()].includes('end')) throw new Error('a client does not have everything');
      }
    }, SETTLE_MS);
    await Promise.all(this.clients.map((client) => client.stop()));
    const committed = await this.truth.changes();
    const logs = this.clients.map(({ log }) => log);
    const truth = this.#options.source === 'trigger' ? atTriggerPositions(committed, logs) : committed;
    return {
      violations: check(truth, logs),
      wrongRows: await this.#countWrongRows(),
      committed: this.committed,
      received: this.#sum(({ changes }) => changes),
      disconnects: this.#sum(({ disconnects }) => disconnects),
      gaps: this.#sum(({ gaps }) => gaps),
      recoveries: this.clients.flatMap(({ recoveries }) => recoveries),
    };
  }

  async stop(): Promise<void> {
    await Promise.all(this.#writers.map((writer) => writer.stop()));
    await Promise.all(this.clients.map((client) => client.stop()));
    for (const server of [this.#server, this.#follower]) {
      server?.kill('SIGKILL');
      await server?.exited;
    }
    await this.proxy.close();
    await this.#postgres.stop();
    await rm(this.#folder, { recursive: true, force: true });
  }

  /**
   * I5: counts the differences between each client's rows and a SELECT. Clients that got a gap message are
   * skipped.
   */
  async #countWrongRows(): Promise<number> {
    let wrong = 0;
    const rows = await this.sql<{ key: string; user_id: string; filler: string }>(
      `SELECT writer || '/' || seq AS key, user_id, filler FROM ledger`,
    );
    for (const client of this.clients) {
      if (client.gaps > 0) continue;
      const own = rows.filter(({ user_id: user }) => user === client.log.user);
      wrong += Math.abs(own.length - client.rows.size);
      wrong += own.filter(({ key, filler }) => client.rows.get(key) !== filler).length;
    }
    return wrong;
  }

  #sum(of: (client: CheckingClient) => number): number {
    return this.clients.reduce((sum, client) => sum + of(client), 0);
  }

  /** Calls the HTTP API as a server admin and returns the response body as text. */
  async #call(method: string, path: string, body?: unknown): Promise<string> {
    const answer = await fetch(`http://127.0.0.1:${this.#port}${path}`, {
      method,
      headers: {
        authorization: `Bearer ${await signClaims({ sub: 'root', role: 'admin' }, SECRET)}`,
        ...(body === undefined ? {} : { 'content-type': 'application/json' }),
      },
      ...(body === undefined ? {} : { body: JSON.stringify(body) }),
    });
    const text = await answer.text();
    if (!answer.ok) throw new Error(`${method} ${path} failed: ${answer.status} ${text}`);
    return text;
  }
}

function requireAtLeast(value: number, wanted: number): void {
  if (value < wanted) throw new Error(`${value} of ${wanted} transactions are committed`);
}

async function statusOf(port: number): Promise<string> {
  const answer = await fetch(`http://127.0.0.1:${port}/readyz`);
  const { parts } = (await answer.json()) as { parts: { row_changes: { status: string } } };
  return parts.row_changes.status;
}

async function findFreePort(): Promise<number> {
  const server = createServer();
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const address = server.address();
  await new Promise((resolve) => server.close(resolve));
  if (typeof address !== 'object' || address === null) throw new Error('no port');
  return address.port;
}
