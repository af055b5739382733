import { silentLog } from '../../packages/server/src/lib/log.js';
import { Database } from '../../packages/server/src/postgres/connection/database.js';
import { ensureSubscriberRole } from '../../packages/server/src/postgres/migrations/subscriber-role.js';

/**
 * Connects the server's `Database` to a test database and creates the role under which policies are
 * evaluated.
 */
export async function connectedDatabase(url: string): Promise<Database> {
  const database = new Database({
    url,
    log: silentLog,
    maxReconnectDelayMs: 100,
    onReady: async () => undefined,
  });
  await database.start();
  await ensureSubscriberRole(database);
  return database;
}
