import { execFileSync } from 'node:child_process';
import { chmodSync, chownSync, cpSync, mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const ROOT = dirname(dirname(dirname(fileURLToPath(import.meta.url))));

/** A fresh clone in a folder of its own: what is under version control, and nothing that was installed or built. */
export class Clone {
  readonly folder: string;

  constructor() {
    this.folder = mkdtempSync(join(tmpdir(), 'goforward-clone-'));
    chmodSync(this.folder, 0o755);
    const listed = execFileSync('git', ['ls-files', '--cached', '--others', '--exclude-standard', '-z'], {
      cwd: ROOT,
      encoding: 'utf8',
    });
    for (const file of listed.split('\0')) {
      if (file !== '') cpSync(join(ROOT, file), join(this.folder, file), { force: true });
    }
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
