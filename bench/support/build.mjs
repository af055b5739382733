import { spawnSync } from 'node:child_process';
import {
  chmodSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

/** The folder of this checkout. */
const CHECKOUT = fileURLToPath(new URL('../..', import.meta.url));
/** The scope of the workspace packages, which npm links into node_modules. */
const OWN_SCOPE = '@goforward';

/**
 * A built version of the server: its name in tables, and the root folder of its checkout.
 * @typedef {{ name: string, root: string }} Build
 */

/** The build of this checkout, made by `npm run bench`. @type {Build} */
export const THIS_CHECKOUT = { name: 'this checkout', root: CHECKOUT };

/** Thrown when git does not know a commit, or when installing or building it fails. */
export class BuildError extends Error {}

/**
 * Builds a commit in a temporary git worktree. The worktree exists until `remove`, or until this process
 * exits.
 */
export class CommitBuild {
  /** @type {Build} */
  build;
  #remove = () => this.remove();

  /** @param {string} commit a hash, a branch or a revision such as `HEAD~3` */
  constructor(commit) {
    const hash = hashOf(commit);
    const root = mkdtempSync(join(tmpdir(), 'goforward-bench-'));
    // When run as root, another account runs the PostgreSQL programs in it.
    chmodSync(root, 0o755);
    this.build = { name: hash.slice(0, 10), root };
    process.once('exit', this.#remove);
    try {
      process.stdout.write(`Building ${git('log', '-1', '--format=%h %s', hash)} …\n`);
      git('worktree', 'add', '--detach', '--force', root, hash);
      install(root);
      run(root, 'npm', ['run', 'build']);
    } catch (error) {
      this.remove();
      throw error;
    }
  }

  remove() {
    process.off('exit', this.#remove);
    spawnSync('git', ['worktree', 'remove', '--force', this.build.root], { cwd: CHECKOUT });
    rmSync(this.build.root, { recursive: true, force: true });
  }
}

/** Installs packages: shares those of this checkout if package-lock.json is the same, else runs `npm ci`. */
function install(root) {
  const lock = (folder) => readFileSync(join(folder, 'package-lock.json'), 'utf8');
  if (lock(root) === lock(CHECKOUT)) shareModules(root);
  else run(root, 'npm', ['ci', '--prefer-offline', '--no-audit', '--no-fund']);
}

/**
 * Links every installed package of this checkout into another one, except the workspaces, which link to its
 * own.
 */
function shareModules(root) {
  for (const folder of ['', ...readdirSync(join(root, 'packages')).map((name) => join('packages', name))]) {
    const [from, to] = [CHECKOUT, root].map((base) => join(base, folder, 'node_modules'));
    if (!existsSync(from)) continue;
    mkdirSync(to);
    for (const name of readdirSync(from))
      if (name !== OWN_SCOPE) symlinkSync(join(from, name), join(to, name));
  }
  const own = join(root, 'node_modules', OWN_SCOPE);
  mkdirSync(own);
  for (const folder of readdirSync(join(root, 'packages'))) {
    const path = join(root, 'packages', folder);
    const { name } = JSON.parse(readFileSync(join(path, 'package.json'), 'utf8'));
    symlinkSync(path, join(root, 'node_modules', name));
  }
}

function hashOf(commit) {
  try {
    return git('rev-parse', '--verify', '--quiet', '--end-of-options', `${commit}^{commit}`);
  } catch (cause) {
    throw new BuildError(`The git repository ${CHECKOUT} has no commit ${commit}.`, { cause });
  }
}

/** Runs git in this checkout and returns its output. @param {readonly string[]} args */
function git(...args) {
  const { status, stdout, stderr, error } = spawnSync('git', args, { cwd: CHECKOUT, encoding: 'utf8' });
  if (status === 0) return stdout.trim();
  throw new BuildError(`git ${args.join(' ')} failed: ${error?.message ?? stderr.trim()}`);
}

/** Runs a command in a checkout; its output is shown only when it fails. @param {readonly string[]} args */
function run(root, command, args) {
  const { status, stdout, stderr } = spawnSync(command, args, { cwd: root, encoding: 'utf8' });
  if (status !== 0) throw new BuildError(`${command} ${args.join(' ')} failed:\n${stdout}${stderr}`);
}
