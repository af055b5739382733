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
import { asTriggersTell } from './outbox-truth.js';
import { Truth } from './truth.js';
import { LEDGER, Writer } from './writers.js';

const ROOT = fileURLToPath(new URL('../..', import.meta.url));
const SECRET = 'a secret for fault tests, thirty-two bytes or more';
const SLOT = 'realtime_slot';
const PUBLICATION = 'realtime_publication';
/** How long clients may take to have everything once nothing goes wrong any more, in ms. */
const SETTLE_MS = 60_000;

export interface FaultRunOptions {
  readonly seed: number;
  readonly postgres: PostgresVersion;
  /** How the server reads changes (logical). */
  readonly source?: ChangeSource;
  readonly writers?: number;
  readonly clients?: number;
  /** A client dies by itself after so many changes, on the average; 0: never. */
  readonly diesEvery?: number;
  readonly env?: Readonly<Record<string, string>>;
}

/** What came of a run. */
export interface Outcome {
  readonly violations: readonly Violation[];
  /** Rows of a client that differ from what a SELECT shows at the end. */
  readonly wrongRows: number;
  readonly committed: number;
  readonly received: number;
  readonly deaths: number;
  readonly gaps: number;
  readonly recoveries: readonly number[];
}

/** A PostgreSQL, a server, writers and clients of one run, and the faults that can be done to them. */
export class FaultRun {
  readonly random: Random;
  readonly #options: FaultRunOptions;
  readonly users = Array.from({ length: 3 }, () => randomUUID());
  readonly #writers: Writer[] = [];
  readonly #tokens = new Map<string, string>();
  readonly clients: CheckingClient[] = [];
  readonly truth: Truth;
  readonly url: string;
  /** Between the server and PostgreSQL. */
  readonly proxy: PostgresProxy;
  readonly #postgres: EmbeddedPostgres;
  readonly #folder: string;
  readonly #port: number;
  #server: ServerProcess | undefined;
  #follower: ServerProcess | undefined;
  #followerPort = 0;
  /** Where clients connect to. */
  #clientPort: number;
  kills = 0;

  static async start(options: FaultRunOptions): Promise<FaultRun> {
    const folder = await mkdtemp(join(tmpdir(), 'goforward-faults-'));
    await chmod(folder, 0o755); // as root, PostgreSQL's account must be able to enter it
    const { postgres, url } = await startPreparedPostgres(join(folder, 'postgres'), options.postgres);
    const proxy = new PostgresProxy(url);
    await proxy.open();
    const run = new FaultRun(options, { folder, postgres, url, proxy, port: await freePort() });
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
    this.truth = new Truth(parts.url, 'truth', PUBLICATION);
  }

  async #begin(): Promise<void> {
    const { writers = 2, clients = 6, diesEvery = 0 } = this.#options;
    await this.sql(LEDGER);
    // The truth is read from the log in either case.
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
        diesEvery,
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

  /** Waits until so many transactions more were committed. */
  async commits(count: number): Promise<void> {
    const wanted = this.committed + count;
    await eventually(() => expectAtLeast(this.committed, wanted), SETTLE_MS);
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

  /** Starts a second server on the same slot, which waits. Clients that connect from `switchOver` on do so to it. */
  async startFollower(): Promise<void> {
    this.#followerPort = await freePort();
    this.#follower = this.#launch(this.#followerPort);
    await eventually(async () => {
      const status = await statusOf(this.#followerPort);
      if (status !== 'follower') throw new Error(`the second server is ${status}`);
    }, SETTLE_MS);
  }

  /** Clients lose their connections and come back at the second server. */
  switchOver(): void {
    this.#clientPort = this.#followerPort;
    for (const client of this.clients) client.die();
  }

  /** Waits until the second server reads row changes; answers how long that took, in ms. */
  async takenOver(): Promise<number> {
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

  /** Whether row changes are read where clients connect; throws while they are not. */
  async streaming(): Promise<void> {
    const status = await statusOf(this.#clientPort);
    if (status !== 'streaming') throw new Error(`row changes are ${status}`);
  }

  /** Makes a channel that follows a table. */
  async subscribe(channel: string, filter: object): Promise<void> {
    await this.#call('POST', '/realtime/channels', { name: channel });
    await this.#call('POST', `/realtime/channels/${channel}/subscribe`, filter);
  }

  /** A connection of a user of its own, once it is a member; with a cursor it comes back. */
  async open(channel: string, user: string, cursor?: string): Promise<WebSocket> {
    const back = cursor === undefined ? '' : `&cursor=${encodeURIComponent(cursor)}`;
    const token = await signClaims({ sub: user, role: 'user' }, SECRET);
    const url = `ws://127.0.0.1:${this.#port}/realtime/channels/${channel}/ws?presence=none&token=${token}${back}`;
    const socket = new WebSocket(url);
    await once(socket, 'message');
    return socket;
  }

  /** How many connections were cut off since they read too slowly. */
  async slowConsumers(): Promise<number> {
    const [, count] =
      /^realtime_slow_consumers_total (\d+)$/m.exec(await this.#call('GET', '/metrics')) ?? [];
    return Number(count);
  }

  get serverPid(): number {
    return this.#server?.pid ?? 0;
  }

  /** Kills the server without a word, and starts another one. */
  async killServer(): Promise<void> {
    this.kills += 1;
    const server = this.#server;
    server?.kill('SIGKILL');
    await server?.exited;
    await this.startServer();
  }

  /** Sends PostgreSQL's main process a signal; it is started again by itself. */
  async signalPostgres(signal: NodeJS.Signals): Promise<void> {
    const { pid } = this.#postgres;
    if (pid === undefined) throw new Error('PostgreSQL does not run');
    process.kill(pid, signal);
    await eventually(() => {
      if (this.#postgres.pid === pid) throw new Error('PostgreSQL was not started again');
    }, SETTLE_MS);
    await eventually(() => this.sql('SELECT 1'), SETTLE_MS);
  }

  /** Runs statements as the superuser, past the proxy. */
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

  /** Does something while a transaction is open that PostgreSQL has to keep its log for. */
  async whileOpen(work: () => Promise<void>): Promise<void> {
    const client = new pg.Client({ connectionString: this.url });
    await client.connect();
    try {
      await client.query('BEGIN');
      // Writers stand still meanwhile.
      await client.query('LOCK TABLE ledger IN EXCLUSIVE MODE');
      await client.query('SELECT txid_current()');
      await work();
      await client.query('COMMIT');
    } finally {
      await client.end();
    }
  }

  /** Ends the writers, waits until every client has everything, and holds what they saw against what was committed. */
  async outcome(): Promise<Outcome> {
    await Promise.all(this.#writers.map((writer) => writer.stop()));
    // Who dies all the time would never catch up.
    for (const client of this.clients) client.calmDown();
    // A last row for each user, so that it is known when everything has come.
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
    const truth = this.#options.source === 'trigger' ? asTriggersTell(committed, logs) : committed;
    return {
      violations: check(truth, logs),
      wrongRows: await this.#wrongRows(),
      committed: this.committed,
      received: this.#sum(({ changes }) => changes),
      deaths: this.#sum(({ deaths }) => deaths),
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

  /** I5: rows that a client has and a SELECT does not show, or the other way round; not of those that were told of a gap. */
  async #wrongRows(): Promise<number> {
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

  /** Answers the text of the answer. */
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
    if (!answer.ok) throw new Error(`${path} was answered with ${answer.status} ${text}`);
    return text;
  }
}

function expectAtLeast(value: number, wanted: number): void {
  if (value < wanted) throw new Error(`${value} of ${wanted} transactions are committed`);
}

async function statusOf(port: number): Promise<string> {
  const answer = await fetch(`http://127.0.0.1:${port}/readyz`);
  const { parts } = (await answer.json()) as { parts: { row_changes: { status: string } } };
  return parts.row_changes.status;
}

async function freePort(): Promise<number> {
  const server = createServer();
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const address = server.address();
  await new Promise((resolve) => server.close(resolve));
  if (typeof address !== 'object' || address === null) throw new Error('no port');
  return address.port;
}
