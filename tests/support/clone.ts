import { chmodSync, chownSync, cpSync, mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { basename, dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const ROOT = dirname(dirname(dirname(fileURLToPath(import.meta.url))));
/** What is installed, built or kept by runs: a clone has none of it. */
const NOT_CLONED = ['.git', '.goforward', '.env', 'node_modules', 'dist', 'coverage', 'test-results'];

/** A fresh clone in a folder of its own: the sources, and nothing that was installed or built. */
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

  /** Gives the clone, with all that is in it, to another account, and closes it to all others: a private home. */
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
