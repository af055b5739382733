import { randomBytes, randomUUID } from 'node:crypto';
import { access, link, open, readFile, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { makePrivateFolder } from '../lib/private-folder.js';
import { StartupError } from '../lib/startup-error.js';

const FILE = 'jwt-secret';

/** The secret that signs tokens where none is configured: made once, kept in the data folder, readable by its owner alone. */
export async function loadGeneratedSecret(dataDir: string): Promise<string> {
  const file = join(dataDir, FILE);
  try {
    return (await read(file)) ?? (await create(dataDir, file));
  } catch (cause) {
    if (cause instanceof StartupError) throw cause;
    throw new StartupError(
      `Cannot keep the generated token secret in ${dataDir} (${reason(cause)}). Set REALTIME_DATA_DIR to a folder that this account may write to, or REALTIME_JWT_SECRET.`,
      { cause },
    );
  }
}

/** Whether an earlier start kept a secret in the data folder. Creates nothing. */
export async function hasGeneratedSecret(dataDir: string): Promise<boolean> {
  const isThere = access(join(dataDir, FILE)).then(() => true);
  return isThere.catch(() => false);
}

async function read(file: string): Promise<string | undefined> {
  try {
    const secret = (await readFile(file, 'utf8')).trim();
    if (secret.length >= 32) return secret;
    throw new StartupError(`${file} does not hold a token secret. Remove it to have a new one made.`);
  } catch (error) {
    if (error instanceof Error && 'code' in error && error.code === 'ENOENT') return undefined;
    throw error;
  }
}

/**
 * Two starts at once must end with one secret: each writes its own file, the first to link it wins. The name is
 * random, since a process id is not unique where two containers share the folder.
 */
async function create(dataDir: string, file: string): Promise<string> {
  await makePrivateFolder(dataDir);
  const own = `${file}.${randomUUID()}`;
  const handle = await open(own, 'wx', 0o600);
  try {
    await handle.writeFile(`${randomBytes(32).toString('base64url')}\n`);
    await handle.sync(); // an empty file after a power failure would keep the server from starting
  } finally {
    await handle.close();
  }
  try {
    await link(own, file);
  } catch (error) {
    if (!(error instanceof Error && 'code' in error && error.code === 'EEXIST')) throw error;
  } finally {
    await rm(own, { force: true });
  }
  const secret = await read(file);
  if (secret === undefined) throw new Error('the secret vanished');
  return secret;
}

function reason(cause: unknown): string {
  if (cause instanceof Error && 'code' in cause && (cause.code === 'EACCES' || cause.code === 'EPERM')) {
    return 'permission denied';
  }
  return cause instanceof Error ? cause.message : String(cause);
}
