import { randomBytes } from 'node:crypto';
import { join } from 'node:path';
import { readIfExists, writePrivateFile } from './private-file.js';

export const PASSWORD_FILE = 'postgres-password';

/** Returns the superuser's password: random, created once, saved in a file that only its owner can read. */
export async function superuserPassword(dataDir: string): Promise<string> {
  const file = join(dataDir, PASSWORD_FILE);
  const saved = await readIfExists(file);
  if (saved !== undefined && /^[\w-]{32,}$/.test(saved)) return saved;
  const password = randomBytes(24).toString('base64url');
  await writePrivateFile(file, `${password}\n`);
  return password;
}
