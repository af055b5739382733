import { expect, it } from 'vitest';
import { folderProblem } from './folder-problem.js';

function withCode(code: string): Error {
  return Object.assign(new Error(`${code}: some words`), { code });
}

it.each([
  ['EACCES', 'permission denied'],
  ['EPERM', 'permission denied'],
  ['EROFS', 'read-only file system'],
  ['ENOTDIR', 'not a folder'],
])('%s becomes a one-line error that names the folder: %s', (code, reason) => {
  expect(folderProblem(withCode(code), '/data')?.message).toBe(
    `Cannot use the data folder /data (${reason}). Set REALTIME_DATA_DIR to a folder that this account may write to, or DATABASE_URL to your own PostgreSQL.`,
  );
});

it.each([
  withCode('ENOSPC'),
  'FATAL:  could not write to file "x": No space left on device',
  'FATAL:  could not extend file "x": wrote only 4096 of 8192 bytes\nHINT:  Check free disk space.',
])('a full disk becomes a one-line error', (error) => {
  expect(folderProblem(error, '/data')?.message).toBe(
    'The disk of the data folder /data is full. Free some space, or set REALTIME_DATA_DIR to another disk.',
  );
});

it('another error is not a folder problem', () => {
  expect(folderProblem(new Error('something else'), '/data')).toBeUndefined();
});
