import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { readdir, rm } from 'node:fs/promises';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { dirname, join } from 'node:path';
import pg from 'pg';
import type { EmbeddedPostgres } from '../../packages/server/src/postgres/embedded/embedded-postgres.js';
import { migrate } from '../../packages/server/src/postgres/migrations/migrations.js';
import { isPostgresVersion, type PostgresVersion } from './matrix.js';
import { memoryFolder } from './memory-folder.js';
import { startPreparedPostgres } from './prepared-cluster.js';
import { sql } from './sql.js';

/** The template database, with the server's schema, on each shared PostgreSQL. */
const MIGRATED_DATABASE = 'migrated_template';

const FOLDER_PREFIX = 'goforward-test-';

/** How a test reaches a shared PostgreSQL. */
export interface SharedServer {
  /** The superuser's connection string. */
  readonly url: string;
  /** The name of a database with the server's schema, for `CREATE DATABASE … TEMPLATE`. */
  readonly migrated: string;
}

interface Running {
  readonly server: SharedServer;
  readonly stop: () => Promise<void>;
}

/**
 * Runs the PostgreSQL servers that all test files of a run share: at most one per version, started when a
 * test first requests it. Tests run in processes of their own and request it by HTTP. A run that needs none
 * starts none.
 */
export class SharedPostgres {
  readonly #running = new Map<PostgresVersion, Promise<Running>>();
  /** Protects the answer, a superuser's connection string, from other users of the machine. */
  readonly #secret = randomBytes(16).toString('hex');
  readonly #server = createServer((request, response) => {
    const [, secret, version = ''] = (request.url ?? '').split('/');
    if (secret !== this.#secret || !isPostgresVersion(version)) {
      response.writeHead(404).end();
      return;
    }
    this.#start(version).then(
      ({ server }) => response.end(JSON.stringify(server)),
      (error: unknown) => response.writeHead(500).end(String(error)),
    );
  });

  /** Starts listening and returns the URL, to which a test appends the version that it needs. */
  async listen(): Promise<string> {
    this.#server.listen(0, '127.0.0.1');
    await once(this.#server, 'listening');
    return `http://127.0.0.1:${(this.#server.address() as AddressInfo).port}/${this.#secret}/`;
  }

  async stop(): Promise<void> {
    this.#server.close();
    this.#server.closeAllConnections();
    const running = [...this.#running.values()];
    // A PostgreSQL that failed to start is stopped already, and the test that requested it got the error.
    await Promise.all(running.map(async (each) => (await each.catch(() => undefined))?.stop()));
  }

  #start(version: PostgresVersion): Promise<Running> {
    const running = this.#running.get(version) ?? start(version);
    this.#running.set(version, running);
    return running;
  }
}

/** Removes what runs left behind that were killed: it is in memory. */
async function removeAbandoned(parent: string): Promise<void> {
  const names = await readdir(parent);
  for (const name of names) {
    const pid = Number(new RegExp(`^${FOLDER_PREFIX}(\\d+)-`).exec(name)?.[1] ?? process.pid);
    if (!isAlive(pid)) await rm(join(parent, name), { recursive: true, force: true });
  }
}

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code !== 'ESRCH';
  }
}

async function start(version: PostgresVersion): Promise<Running> {
  const folder = join(memoryFolder(), `${FOLDER_PREFIX}${process.pid}-${randomBytes(6).toString('hex')}`);
  let postgres: EmbeddedPostgres | undefined;
  const stop = async () => {
    await postgres?.stop();
    await rm(folder, { recursive: true, force: true });
  };
  try {
    await removeAbandoned(dirname(folder));
    const started = await startPreparedPostgres(folder, version);
    postgres = started.postgres;
    await createMigratedDatabase(started.url);
    return { server: { url: started.url, migrated: MIGRATED_DATABASE }, stop };
  } catch (error) {
    await stop();
    throw error;
  }
}

async function createMigratedDatabase(url: string): Promise<void> {
  await sql(url, `CREATE DATABASE ${MIGRATED_DATABASE}`);
  const own = new URL(url);
  own.pathname = `/${MIGRATED_DATABASE}`;
  const client = new pg.Client({ connectionString: own.href });
  await client.connect();
  try {
    await migrate(client);
  } finally {
    await client.end();
  }
}
