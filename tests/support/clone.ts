import {
  chmodSync,
  chownSync,
  copyFileSync,
  cpSync,
  linkSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  rmSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { basename, dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const ROOT = dirname(dirname(dirname(fileURLToPath(import.meta.url))));
/** Files and folders that installing, building and running create: a clone has none of them. */
const NOT_CLONED = ['.git', '.goforward', '.env', 'node_modules', 'dist', 'coverage', 'test-results'];

/** A copy of the sources in a temporary folder, like a fresh clone: nothing is installed or built. */
export class Clone {
  readonly folder: string;

  constructor() {
    this.folder = mkdtempSync(join(tmpdir(), 'goforward-clone-'));
    chmodSync(this.folder, 0o755);
    cpSync(ROOT, this.folder, {
      recursive: true,
      filter: (path) => path === ROOT || !NOT_CLONED.includes(basename(path)),
    });
  }

  /** Hard-links this checkout's installed packages and copies its build. */
  installAndBuild(): void {
    linkTree(join(ROOT, 'node_modules'), join(this.folder, 'node_modules'));
    for (const name of ['protocol', 'server']) {
      const dist = join('packages', name, 'dist');
      cpSync(join(ROOT, dist), join(this.folder, dist), { recursive: true });
    }
  }

  /** Gives the clone to another account and denies access to all others, as in a private home directory. */
  giveTo(uid: number, gid: number): void {
    chownSync(this.folder, uid, gid);
    chmodSync(this.folder, 0o700);
    for (const entry of readdirSync(this.folder, { recursive: true, withFileTypes: true })) {
      if (!entry.isSymbolicLink()) chownSync(join(entry.parentPath, entry.name), uid, gid);
    }
  }

  remove(): void {
    rmSync(this.folder, { recursive: true, force: true });
  }
}

/** npm rewrites this file in place, which would change the original of a hard link. */
const REWRITTEN_BY_NPM = '.package-lock.json';

function linkTree(from: string, to: string): void {
  mkdirSync(to, { recursive: true });
  for (const entry of readdirSync(from, { withFileTypes: true })) {
    const [source, target] = [join(from, entry.name), join(to, entry.name)];
    if (entry.isDirectory()) linkTree(source, target);
    else if (entry.isSymbolicLink()) cpSync(source, target, { verbatimSymlinks: true });
    else if (entry.name === REWRITTEN_BY_NPM) copyFileSync(source, target);
    else linkSync(source, target);
  }
}
