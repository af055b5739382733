import { resolve } from 'node:path';
import type { Settings } from '../config/settings-table.js';
import { silentLog } from '../lib/log.js';
import { StartupError } from '../lib/startup-error.js';
import { Database } from '../postgres/connection/database.js';
import { runningUrl } from '../postgres/embedded/running-url.js';

/**
 * Does something with the database that the server would use: that of DATABASE_URL, or the embedded one of the data
 * folder while it runs. Throws StartupError where there is none.
 */
export async function withDatabase<T>(
  settings: Settings,
  work: (database: Database) => Promise<T>,
): Promise<T> {
  const url = settings.databaseUrl ?? (await runningUrl(resolve(settings.dataDir)));
  if (url === undefined)
    throw new StartupError('There is no DATABASE_URL, and no embedded PostgreSQL in the data folder yet.');
  const database = new Database({
    url,
    log: silentLog,
    maxReconnectDelayMs: settings.maxReconnectDelay,
    onReady: async () => undefined,
  });
  try {
    await database.start();
    const { state } = database;
    if (state.status === 'down')
      throw new StartupError(`PostgreSQL cannot be reached: ${state.reason}. Is it running?`);
    return await work(database);
  } finally {
    await database.stop();
  }
}
