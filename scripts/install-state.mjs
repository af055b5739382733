// Checks whether node_modules matches package-lock.json, by the contents of the two lock files. Their
// modification times are meaningless after a copy.
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';

/**
 * Compares the installed packages with package-lock.json. Optional packages may be missing.
 * @returns {{ production: boolean, development: boolean, hasDev: boolean } | undefined} `production`: the dependencies
 *   needed to run are complete; `development`: the dev dependencies are complete, too; `hasDev`: some dev dependencies
 *   are installed. Undefined: nothing is installed.
 */
export function installState(root) {
  const wanted = packagesOf(join(root, 'package-lock.json')) ?? {};
  // Written by npm at the end of an installation.
  const installed = packagesOf(join(root, 'node_modules', '.package-lock.json'));
  if (installed === undefined) return undefined;
  const state = { production: true, development: true, hasDev: false };
  for (const [path, entry] of Object.entries(wanted)) {
    if (!path.includes('node_modules/')) continue;
    const found = installed[path];
    if (found === undefined && (entry.optional || entry.devOptional)) continue;
    if (entry.dev && !entry.optional && found !== undefined) state.hasDev = true;
    if (found !== undefined && isSame(found, entry)) continue;
    state.development = false;
    if (!entry.dev) state.production = false;
  }
  return state;
}

function isSame(found, wanted) {
  if (wanted.link) return found.link === true && found.resolved === wanted.resolved;
  return found.version === wanted.version && found.integrity === wanted.integrity;
}

function packagesOf(file) {
  return existsSync(file) ? JSON.parse(readFileSync(file, 'utf8')).packages : undefined;
}
