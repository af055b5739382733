import { resolve } from 'node:path';
import type { Settings } from '../config/settings-table.js';
import { silentLog } from '../lib/log.js';
import { StartupError } from '../lib/startup-error.js';
import { Database } from '../postgres/connection/database.js';
import { embeddedPostgresUrl } from '../postgres/embedded/embedded-url.js';

/**
 * Returns the connection string of the server's database: DATABASE_URL, or the address of the data folder's embedded
 * PostgreSQL, which runs while the server does. Throws StartupError if there is neither.
 */
export async function databaseUrl(settings: Settings): Promise<string> {
  const url = settings.databaseUrl ?? (await embeddedPostgresUrl(resolve(settings.dataDir)));
  if (url !== undefined) return url;
  throw new StartupError(
    'DATABASE_URL is not set, and the data folder has no embedded PostgreSQL yet. Start the server once, or set DATABASE_URL.',
  );
}

/** Connects to the server's database, runs `work` and disconnects. Throws StartupError when it cannot be reached. */
export async function withDatabase<T>(
  settings: Settings,
  work: (database: Database) => Promise<T>,
): Promise<T> {
  const database = new Database({
    url: await databaseUrl(settings),
    log: silentLog,
    maxReconnectDelayMs: settings.maxReconnectDelay,
    onReady: async () => undefined,
  });
  try {
    await database.start();
    const { state } = database;
    if (state.status === 'down')
      throw new StartupError(`PostgreSQL cannot be reached: ${state.reason}. ${nextStep(settings)}`);
    return await work(database);
  } finally {
    await database.stop();
  }
}

function nextStep({ databaseUrl: url }: Settings): string {
  return url === undefined
    ? 'The embedded PostgreSQL runs while the server runs: start the server.'
    : 'Check DATABASE_URL, and that PostgreSQL is running.';
}
