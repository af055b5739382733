import { StartupError } from '../../lib/startup-error.js';

const REASONS: Readonly<Record<string, string>> = {
  EACCES: 'permission denied',
  EPERM: 'permission denied',
  EROFS: 'read-only file system',
  ENOTDIR: 'not a folder',
  EEXIST: 'not a folder',
  ENOENT: 'no such folder',
  ENAMETOOLONG: 'name too long',
  ELOOP: 'circular symbolic link',
  EIO: 'input/output error',
};

const FULL = /ENOSPC|EDQUOT|No space left on device|Check free disk space|Disk quota exceeded/;

/** Returns the code of a system error: `ENOENT`. */
export function errorCode(error: unknown): string | undefined {
  return error instanceof Error && 'code' in error && typeof error.code === 'string' ? error.code : undefined;
}

/** Returns a StartupError for an `error` of files in or around `folder`; undefined for other errors. */
export function folderProblem(error: unknown, folder: string): StartupError | undefined {
  const message = error instanceof Error ? error.message : String(error);
  if (FULL.test(message)) {
    return new StartupError(
      `The disk of the data folder ${folder} is full. Free some space, or set REALTIME_DATA_DIR to another disk.`,
      { cause: error },
    );
  }
  const reason = REASONS[errorCode(error) ?? ''];
  if (reason === undefined) return undefined;
  return new StartupError(
    `Cannot use the data folder ${folder} (${reason}). Set REALTIME_DATA_DIR to a folder that this account may write to, or DATABASE_URL to your own PostgreSQL.`,
    { cause: error },
  );
}
