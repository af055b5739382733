import { chmod, lstat, mkdir } from 'node:fs/promises';
import { homedir, tmpdir } from 'node:os';
import { join } from 'node:path';

const NAME = 'goforward-realtime';
const WRITABLE_BY_OTHERS = 0o022;

/**
 * Folders for a copy of the programs, and for a cluster that cannot lie in its data folder; the best first. As
 * root, ones that every account can enter, and not /var/cache, which may be cleared.
 */
export function cacheFolders(): string[] {
  if (process.platform === 'win32') return [join(process.env.LOCALAPPDATA ?? tmpdir(), NAME)];
  const uid = process.getuid?.();
  const best = uid === 0 ? '/var/lib' : (process.env.XDG_CACHE_HOME ?? join(homedir(), '.cache'));
  return [join(best, NAME), join(tmpdir(), `${NAME}-${uid}`)];
}

/** Makes a folder that others may read; false when it cannot be had, or is somebody else's. */
export async function openCacheFolder(folder: string): Promise<boolean> {
  try {
    await mkdir(folder, { recursive: true, mode: 0o755 });
    if (!(await isOwnFolder(folder))) return false;
    if (process.platform !== 'win32') await chmod(folder, 0o755); // the umask may have taken more away
    return true;
  } catch {
    return false;
  }
}

/** Whether nobody else can change what is in it: among temporary files anybody may have laid out programs for us to run. */
export async function isOwnFolder(folder: string): Promise<boolean> {
  const stats = await lstat(folder).catch(() => undefined);
  if (stats === undefined || !stats.isDirectory()) return false;
  return (
    process.platform === 'win32' ||
    (stats.uid === process.getuid?.() && (stats.mode & WRITABLE_BY_OTHERS) === 0)
  );
}
