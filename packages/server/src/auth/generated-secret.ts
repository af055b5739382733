import { randomBytes, randomUUID } from 'node:crypto';
import { access, link, open, readFile, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { makePrivateFolder } from '../lib/private-folder.js';
import { StartupError } from '../lib/startup-error.js';

const FILE = 'jwt-secret';

/**
 * Returns the secret that signs tokens if none is configured. It is generated once and stored in the data
 * folder, readable only by its owner.
 */
export async function loadGeneratedSecret(dataDir: string): Promise<string> {
  const file = join(dataDir, FILE);
  try {
    return (await read(file)) ?? (await create(dataDir, file));
  } catch (cause) {
    if (cause instanceof StartupError) throw cause;
    throw new StartupError(
      `Cannot store the generated token secret in ${dataDir} (${reason(cause)}). Set REALTIME_DATA_DIR to a folder that this account can write to, or set REALTIME_JWT_SECRET.`,
      { cause },
    );
  }
}

/** Returns whether an earlier start stored a secret in the data folder. Creates nothing. */
export async function hasGeneratedSecret(dataDir: string): Promise<boolean> {
  const isThere = access(join(dataDir, FILE)).then(() => true);
  return isThere.catch(() => false);
}

async function read(file: string): Promise<string | undefined> {
  try {
    const secret = (await readFile(file, 'utf8')).trim();
    if (secret.length >= 32) return secret;
    throw new StartupError(
      `${file} does not contain a token secret. Remove it, and the next start generates a new one.`,
    );
  } catch (error) {
    if (error instanceof Error && 'code' in error && error.code === 'ENOENT') return undefined;
    throw error;
  }
}

/**
 * Stores a new secret. Servers that start at the same time must use the same one: each writes its own file,
 * and the first to link it wins. File names are random, since process ids are not unique if containers share
 * the folder.
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
  if (secret === undefined) throw new Error(`${file} was removed during the start`);
  return secret;
}

function reason(cause: unknown): string {
  if (cause instanceof Error && 'code' in cause && (cause.code === 'EACCES' || cause.code === 'EPERM')) {
    return 'permission denied';
  }
  return cause instanceof Error ? cause.message : String(cause);
}
