import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import type { PlatformPackage } from '../../packages/server/src/postgres/embedded/platform-package.js';

/**
 * Returns the package of the oldest supported PostgreSQL; undefined if there is none for this platform. Throws
 * if it exists and is not installed: the newest version would be tested twice.
 */
export function oldPackage(): PlatformPackage | undefined {
  const name = `postgres-14-${process.platform}-${process.arch}`;
  try {
    const root = dirname(dirname(createRequire(import.meta.url).resolve(name)));
    return { native: join(root, 'native'), build: name };
  } catch (error) {
    if (process.platform === 'linux' && process.arch === 'x64') throw error;
    return undefined;
  }
}
