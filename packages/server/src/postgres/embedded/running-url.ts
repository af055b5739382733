import { join } from 'node:path';
import { PORT_FILE } from './port.js';
import { readIfThere } from './private-file.js';
import { superuserUrl } from './superuser-login.js';
import { PASSWORD_FILE } from './superuser-password.js';

/** Where the embedded PostgreSQL of a data folder is when it runs; undefined when the folder has had none. */
export async function runningUrl(dataDir: string): Promise<string | undefined> {
  const [port, password] = await Promise.all([
    readIfThere(join(dataDir, PORT_FILE)),
    readIfThere(join(dataDir, PASSWORD_FILE)),
  ]);
  if (port === undefined || password === undefined) return undefined;
  return superuserUrl(Number(port.trim()), password.trim());
}
