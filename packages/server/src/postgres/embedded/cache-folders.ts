import { chmod, lstat, mkdir } from 'node:fs/promises';
import { homedir, tmpdir } from 'node:os';
import { join } from 'node:path';

const NAME = 'goforward-realtime';
const WRITABLE_BY_OTHERS = 0o022;

/**
 * Returns the folders for a copy of the programs, and for a cluster that cannot be in the data folder; the
 * preferred one first. For root they are folders that every account can enter, and not /var/cache, which may
 * be cleared.
 */
export function cacheFolders(): string[] {
  if (process.platform === 'win32') return [join(process.env.LOCALAPPDATA ?? tmpdir(), NAME)];
  const uid = process.getuid?.();
  const preferred = uid === 0 ? '/var/lib' : (process.env.XDG_CACHE_HOME ?? join(homedir(), '.cache'));
  return [join(preferred, NAME), join(tmpdir(), `${NAME}-${uid}`)];
}

/** Creates a folder that others may read. Returns false when that fails or others can write to the folder. */
export async function openCacheFolder(folder: string): Promise<boolean> {
  try {
    await mkdir(folder, { recursive: true, mode: 0o755 });
    if (!(await isOwnFolder(folder))) return false;
    if (process.platform !== 'win32') await chmod(folder, 0o755); // the umask may have removed bits
    return true;
  } catch {
    return false;
  }
}

/**
 * Whether the folder is ours and only we can change its contents. In a temporary folder another user could
 * have planted programs for us to run.
 */
export async function isOwnFolder(folder: string): Promise<boolean> {
  const stats = await lstat(folder).catch(() => undefined);
  if (stats === undefined || !stats.isDirectory()) return false;
  return (
    process.platform === 'win32' ||
    (stats.uid === process.getuid?.() && (stats.mode & WRITABLE_BY_OTHERS) === 0)
  );
}
