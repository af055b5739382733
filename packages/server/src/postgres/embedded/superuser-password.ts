import { randomBytes } from 'node:crypto';
import { join } from 'node:path';
import { readIfThere, writePrivately } from './private-file.js';

export const PASSWORD_FILE = 'postgres-password';

/** The password of the embedded PostgreSQL's superuser: random, made once, in a file that its owner alone reads. */
export async function superuserPassword(dataDir: string): Promise<string> {
  const file = join(dataDir, PASSWORD_FILE);
  const kept = await readIfThere(file);
  if (kept !== undefined && /^[\w-]{32,}$/.test(kept)) return kept;
  const password = randomBytes(24).toString('base64url');
  await writePrivately(file, `${password}\n`);
  return password;
}
