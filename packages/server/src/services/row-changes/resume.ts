import { join, resolve } from 'node:path';
import { ResumeLog } from '../../changes/log/resume-log.js';
import { WindowFile } from '../../changes/log/window-file.js';
import type { Settings } from '../../config/settings-table.js';
import type { IdSource } from '../../lib/ids.js';
import type { Log } from '../../lib/log.js';

/** Bytes of the resume window in memory; the rest is in files. */
const MEMORY_BYTES = 64 * 1024 * 1024;
const FILE_BYTES = 2 * 1024 ** 3;
const FILE_NAME_LENGTH = 12;

/** Constructs the resume window: the changes that can still be sent to a returning client. */
export function createResumeWindow(
  settings: Pick<Settings, 'dataDir' | 'resumeWindowBytes'>,
  ids: IdSource,
  log: Log,
): { windowFile: WindowFile; resumeLog: ResumeLog } {
  const folder = join(resolve(settings.dataDir), 'resume-window');
  const windowFile = new WindowFile(folder, ids.random(FILE_NAME_LENGTH));
  const resumeLog = new ResumeLog({
    maxBytes: MEMORY_BYTES,
    // The transaction that is being read can be larger than the window.
    maxFileBytes: Math.max(FILE_BYTES, 2 * settings.resumeWindowBytes),
    file: windowFile,
    log,
  });
  return { windowFile, resumeLog };
}
