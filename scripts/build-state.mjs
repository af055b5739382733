// Checks whether `dist` was built from the present sources. It compares a digest of their contents, stored
// with the build. Times and paths would not do: reinstalling, copying and Docker's COPY change them.
import { createHash } from 'node:crypto';
import { existsSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join, relative, sep } from 'node:path';

const PACKAGES = ['packages/protocol', 'packages/server'];
const ENTRY_POINTS = ['packages/protocol/dist/index.js', 'packages/server/dist/cli/main.js'];
const DIGEST_FILE = 'packages/server/dist/.built-from';

/**
 * Returns whether the build is `missing`, `stale` or `current`. Without sources, as in an image that contains
 * only the build, an existing build is current.
 */
export function buildState(root) {
  if (!ENTRY_POINTS.every((path) => existsSync(join(root, path)))) return 'missing';
  const digest = sourceDigest(root);
  return digest === undefined || digest === recordedDigest(root) ? 'current' : 'stale';
}

/** Records that `dist` was built from sources with this digest. */
export function recordBuild(root, digest) {
  if (digest !== undefined) writeFileSync(join(root, DIGEST_FILE), digest);
}

/** Returns the digest of everything that the compiler reads; undefined if a package has no sources. */
export function sourceDigest(root) {
  if (!PACKAGES.every((path) => existsSync(join(root, path, 'src')))) return undefined;
  const files = ['tsconfig.json', 'tsconfig.base.json'].map((name) => join(root, name));
  for (const path of PACKAGES) {
    files.push(join(root, path, 'tsconfig.json'), join(root, path, 'package.json'));
    for (const entry of readdirSync(join(root, path, 'src'), { recursive: true, withFileTypes: true }))
      if (entry.isFile() && /(?<!\.test)\.ts$/.test(entry.name))
        files.push(join(entry.parentPath ?? entry.path, entry.name));
  }
  const digest = createHash('sha256');
  for (const file of files.sort()) {
    const content = readFileSync(file);
    digest.update(`${relative(root, file).replaceAll(sep, '/')} ${content.length}\n`).update(content);
  }
  return digest.digest('hex');
}

function recordedDigest(root) {
  const file = join(root, DIGEST_FILE);
  return existsSync(file) ? readFileSync(file, 'utf8') : undefined;
}
