import { readdir } from 'node:fs/promises';
import { delimiter, dirname, join } from 'node:path';

/** Folders in which operating system packages install PostgreSQL's programs; a `*` stands for a version. */
const PACKAGE_FOLDERS: readonly string[] =
  process.platform === 'win32'
    ? ['C:\\Program Files\\PostgreSQL\\*\\bin']
    : [
        '/usr/lib/postgresql/*/bin', // Debian, Ubuntu
        '/usr/libexec/postgresql*', // Alpine
        '/usr/pgsql-*/bin', // PostgreSQL's own packages for Red Hat
        '/opt/homebrew/opt/postgresql@*/bin',
        '/usr/local/opt/postgresql@*/bin',
        '/Applications/Postgres.app/Contents/Versions/*/bin',
      ];

/**
 * Returns folders of this machine that may hold PostgreSQL's programs: those of PATH first, then those of
 * packages.
 */
export async function installedPostgresFolders(): Promise<string[]> {
  const onPath = (process.env.PATH ?? '').split(delimiter).filter((folder) => folder !== '');
  const packaged = await Promise.all(PACKAGE_FOLDERS.map(expand));
  return [...new Set([...onPath, ...packaged.flat()])];
}

async function expand(pattern: string): Promise<string[]> {
  const [before = '', after = ''] = pattern.split('*');
  const parent = before.endsWith('/') || before.endsWith('\\') ? before : dirname(before);
  const prefix = before.slice(parent.length).replace(/^[/\\]/, '');
  const names = await readdir(parent).catch(() => []);
  return names.filter((name) => name.startsWith(prefix)).map((name) => join(parent, name, after));
}
