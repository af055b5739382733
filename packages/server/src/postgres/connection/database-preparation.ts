import pg from 'pg';
import { migrate } from '../migrations/migrations.js';
import type { SchemaName } from '../migrations/schema.js';
import { UnusableDatabase } from '../migrations/unusable-database.js';
import { connectionOptions } from './connection-target.js';
import { PIN_SESSION } from './session-settings.js';

const OLDEST_VERSION = 14;
/** Longer than the timeout of a request: another node may be migrating a large table at the moment. */
const QUERY_TIMEOUT_MS = 120_000;

/**
 * Checks the version and state of the database and migrates the server's schema, on a connection of its own.
 */
export class DatabasePreparation {
  readonly #client: pg.Client;

  /** Throws when the URL names a certificate that cannot be read. */
  constructor(url: string, applicationName: string) {
    this.#client = new pg.Client(connectionOptions(url, applicationName, QUERY_TIMEOUT_MS));
    // The pending call rejects with the same error.
    this.#client.on('error', () => undefined);
  }

  get client(): pg.Client {
    return this.#client;
  }

  /** Returns the name of the schema after migrating it, and closes the connection. */
  async run(): Promise<SchemaName> {
    try {
      await this.#client.connect();
      await this.#client.query(PIN_SESSION);
      await requireUsable(this.#client);
      return await migrate(this.#client);
    } finally {
      this.#client.end().catch(() => undefined);
      this.cancel();
    }
  }

  /** Closes the connection at once, even in the middle of a statement. */
  cancel(): void {
    this.#client.connection.stream.destroy();
  }
}

async function requireUsable(client: pg.ClientBase): Promise<void> {
  const { rows } = await client.query<{ version: number; read_only: string }>(
    `SELECT current_setting('server_version_num')::int AS version, current_setting('transaction_read_only') AS read_only`,
  );
  const { version = 0, read_only } = rows[0] ?? {};
  const major = Math.floor(version / 10_000);
  if (major < OLDEST_VERSION) {
    throw new UnusableDatabase(
      `PostgreSQL ${major} is too old`,
      `PostgreSQL ${major} is too old. Use PostgreSQL ${OLDEST_VERSION} or later`,
    );
  }
  if (read_only === 'on') throw new ReadOnlyDatabase();
}

/** The database answers but accepts no writes. The code is that of PostgreSQL's own error for a write. */
class ReadOnlyDatabase extends Error {
  readonly code = '25006';
}
