import { readFileSync } from 'node:fs';
import { resolve } from 'node:path';
import { settingError } from './setting-error.js';

const REASONS: Readonly<Record<string, string>> = {
  ENOENT: 'there is no such file',
  EACCES: 'permission denied',
  EPERM: 'permission denied',
  EISDIR: 'it is a folder',
};

/**
 * Returns the secret in a file, without its last line break. `name` is the setting that contains the path.
 * Throws a StartupError of one line with the setting and the path, never the content, if the file has no
 * usable text.
 */
export function readSecretFile(name: string, path: string): string {
  const text = decode(name, path, readContent(name, path)).replace(/\r?\n$/, '');
  if (text === '') throw settingError(`${name}: ${JSON.stringify(path)} is empty.`);
  return text;
}

function readContent(name: string, path: string): Buffer {
  try {
    return readFileSync(resolve(path));
  } catch (cause) {
    const { code = '' } = cause as NodeJS.ErrnoException;
    const reason = REASONS[code] ?? (code || 'unknown reason');
    throw settingError(`${name}: ${JSON.stringify(path)} cannot be read: ${reason}.`);
  }
}

/** Decoding random bytes as text would replace many of them, and weaken the secret. */
function decode(name: string, path: string, content: Buffer): string {
  try {
    return new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(content);
  } catch {
    throw settingError(
      `${name}: ${JSON.stringify(path)} is not text in UTF-8. Write the secret in base64 or hex.`,
    );
  }
}
