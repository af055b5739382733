import {
  chmod,
  lstat,
  mkdir,
  mkdtemp,
  readdir,
  readFile,
  readlink,
  rm,
  stat,
  symlink,
  writeFile,
} from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { silentLog } from '../../lib/log.js';
import { findBinaries, programPath } from './binaries.js';
import { copyBinaries } from './binaries-copy.js';
import { isOwnFolder, openCacheFolder } from './cache-folders.js';
import { findPlatformPackage, type PlatformPackage, repairLinks } from './platform-package.js';
import { runProgram } from './run-program.js';

const isRoot = process.getuid?.() === 0;
const NOBODY = { name: 'nobody', uid: 65_534, gid: 65_534 };

let folder: string;
let cache: string;
let shipped: PlatformPackage;

beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'goforward-binaries-'));
  await chmod(folder, 0o755);
  cache = join(folder, 'cache');
  shipped = await makePackage(join(folder, 'private'));
});

afterEach(() => rm(folder, { recursive: true, force: true }));

/** Creates a package as npm unpacks it, in a private folder. Its programs only print their version. */
async function makePackage(parent: string): Promise<PlatformPackage> {
  const native = join(parent, 'native');
  await mkdir(parent, { mode: 0o700 });
  for (const name of ['bin', 'lib', 'share/postgresql']) await mkdir(join(native, name), { recursive: true });
  for (const name of ['postgres', 'initdb']) {
    await writeFile(join(native, 'bin', name), `#!/bin/sh\necho "${name} (PostgreSQL) 18.4"\n`, {
      mode: 0o700,
    });
  }
  await writeFile(join(native, 'lib/libx.so.1.2'), 'a library', { mode: 0o600 });
  await writeFile(join(native, 'lib/libx.a'), 'for compilers');
  await writeFile(join(native, 'share/postgresql/postgres.bki'), 'the catalog');
  const links = [{ source: 'native/lib/libx.so.1.2', target: 'native/lib/libx.so.1' }];
  await writeFile(join(native, 'pg-symlinks.json'), JSON.stringify(links));
  return { native, build: 'build' };
}

function find(options: Partial<Parameters<typeof findBinaries>[0]>) {
  return findBinaries({ account: undefined, caches: [cache], wanted: undefined, log: silentLog, ...options });
}

describe('repairLinks', () => {
  it('creates missing links and keeps existing ones', async () => {
    await repairLinks(shipped.native);
    await repairLinks(shipped.native);
    expect(await readlink(join(shipped.native, 'lib/libx.so.1'))).toBe('libx.so.1.2');
  });

  it('makes the programs of the real package runnable', async () => {
    const real = await findPlatformPackage();
    if (real === undefined) return;
    await repairLinks(real.native);
    for (const name of ['postgres', 'initdb'] as const) {
      const { stdout } = await runProgram(programPath({ folder: join(real.native, 'bin') }, name), [
        '--version',
      ]);
      expect(stdout).toMatch(/\(PostgreSQL\) 18\./);
    }
  });
});

describe('a copy of the programs', () => {
  it('has the files needed to run them, readable by all, and the links', async () => {
    const copy = join(cache, 'build');
    expect(await copyBinaries(shipped, cache)).toBe(copy);
    expect(await readFile(join(copy, 'lib/libx.so.1'), 'utf8')).toBe('a library');
    expect((await stat(join(copy, 'lib/libx.so.1.2'))).mode & 0o777).toBe(0o644);
    expect((await stat(join(copy, 'bin/postgres'))).mode & 0o777).toBe(0o755);
    expect(await readdir(join(copy, 'lib'))).not.toContain('libx.a');
    expect(await readdir(join(shipped.native, 'lib'))).not.toContain('libx.so.1');
  });

  it('is created once, also by concurrent calls', async () => {
    const copies = await Promise.all([1, 2, 3, 4].map(() => copyBinaries(shipped, cache)));
    expect(new Set(copies)).toEqual(new Set([join(cache, 'build')]));
    const { ino } = await stat(join(cache, 'build'));
    await copyBinaries(shipped, cache);
    expect((await stat(join(cache, 'build'))).ino).toBe(ino);
    expect(await readdir(cache)).toEqual(['build']);
  });

  it('is recreated when a file of it is missing', async () => {
    await copyBinaries(shipped, cache);
    const file = join(cache, 'build/share/postgresql/postgres.bki');
    await rm(file);
    await copyBinaries(shipped, cache);
    expect(await readFile(file, 'utf8')).toBe('the catalog');
  });

  it('is not created in a folder that others may write to', async () => {
    await mkdir(cache);
    await chmod(cache, 0o777);
    expect(await copyBinaries(shipped, cache)).toBeUndefined();
    expect(await readdir(cache)).toEqual([]);
  });
});

describe('findBinaries', () => {
  it('uses the programs of the package in place and repairs their links', async () => {
    expect(await find({ package: shipped })).toEqual({
      folder: join(shipped.native, 'bin'),
      version: '18.4',
      major: 18,
    });
    expect((await lstat(join(shipped.native, 'lib/libx.so.1'))).isSymbolicLink()).toBe(true);
  });

  it.skipIf(!isRoot)('uses a copy where the account that runs them cannot enter the package', async () => {
    const { folder: found } = await find({ package: shipped, account: NOBODY });
    expect(found).toBe(join(cache, 'build/bin'));
  });

  it.skipIf(!isRoot)(
    'uses a copy in the next cache folder where the account cannot enter the first',
    async () => {
      const caches = [join(folder, 'private/cache'), cache];
      const { folder: found } = await find({ package: shipped, account: NOBODY, caches });
      expect(found).toBe(join(cache, 'build/bin'));
    },
  );

  it('uses an installed PostgreSQL, or throws a one-line error, where the package is for another system', async () => {
    await writeFile(join(shipped.native, 'bin/postgres'), '#!/not/there\n', { mode: 0o700 });
    const found = await find({ package: shipped }).catch((error: unknown) => error);
    if (found instanceof Error) {
      expect(found.message).toMatch(/^No PostgreSQL programs found for \S+\. Set DATABASE_URL[^\n]*$/);
    } else {
      expect(found).toMatchObject({ folder: expect.not.stringContaining(folder) });
    }
    await expect(stat(cache)).rejects.toMatchObject({ code: 'ENOENT' });
  });
});

describe('a cache folder', () => {
  it('is created with access for all accounts', async () => {
    expect(await openCacheFolder(join(cache, 'deep'))).toBe(true);
    expect((await stat(join(cache, 'deep'))).mode & 0o777).toBe(0o755);
  });

  it('is rejected when it is a link or a file', async () => {
    await symlink(folder, join(folder, 'link'));
    await writeFile(join(folder, 'file'), '');
    expect(await isOwnFolder(join(folder, 'link'))).toBe(false);
    expect(await openCacheFolder(join(folder, 'file'))).toBe(false);
  });
});
