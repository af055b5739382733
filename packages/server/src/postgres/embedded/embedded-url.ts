import { join } from 'node:path';
import { PORT_FILE } from './port.js';
import { readIfExists } from './private-file.js';
import { superuserUrl } from './superuser-login.js';
import { PASSWORD_FILE } from './superuser-password.js';

/**
 * Returns the connection string of a data folder's embedded PostgreSQL, which need not be running; undefined
 * when the folder has never had one.
 */
export async function embeddedPostgresUrl(dataDir: string): Promise<string | undefined> {
  const [port, password] = await Promise.all([
    readIfExists(join(dataDir, PORT_FILE)),
    readIfExists(join(dataDir, PASSWORD_FILE)),
  ]);
  if (port === undefined || password === undefined) return undefined;
  return superuserUrl(Number(port.trim()), password.trim());
}
