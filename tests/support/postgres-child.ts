import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { createInterface } from 'node:readline';
import type { ChildAnswer } from './postgres-child-entry.js';
import { buildProgram, type Program } from './program.js';

/** Runs the embedded PostgreSQL in child processes. */
export class PostgresProgram {
  readonly #program: Program;
  readonly #children = new Set<ChildProcess>();

  private constructor(program: Program) {
    this.#program = program;
  }

  static async build(): Promise<PostgresProgram> {
    return new PostgresProgram(await buildProgram('support/postgres-child-entry.ts'));
  }

  /**
   * Starts a process and returns its first answer. `account`: the system account to run as, which requires
   * root.
   */
  async start(
    options: { dataDir: string; caches?: readonly string[] },
    account?: { uid: number; gid: number },
  ): Promise<{ process: ChildProcess; answer: ChildAnswer }> {
    const child = spawn(process.execPath, [this.#program.file, JSON.stringify(options)], {
      ...account,
      cwd: '/',
      env: { PATH: process.env.PATH, HOME: '/nonexistent', TMPDIR: process.env.TMPDIR },
      stdio: ['pipe', 'pipe', 'inherit'],
    });
    this.#children.add(child);
    child.once('exit', () => this.#children.delete(child));
    for await (const line of createInterface(child.stdout)) {
      return { process: child, answer: JSON.parse(line) as ChildAnswer };
    }
    throw new Error('the process ended without an answer');
  }

  /**
   * Returns whether this account can run the program; it cannot when the checkout is in a private home
   * directory.
   */
  async canRunAs(account: { uid: number; gid: number }): Promise<boolean> {
    const child = spawn(process.execPath, ['--check', this.#program.file], {
      ...account,
      cwd: '/',
      stdio: 'ignore',
    });
    return new Promise((resolve) => {
      child.once('error', () => resolve(false));
      child.once('exit', (code) => resolve(code === 0));
    });
  }

  /** Makes a process stop its PostgreSQL and exit. */
  async stop(child: ChildProcess): Promise<void> {
    if (child.exitCode !== null || child.signalCode !== null) return;
    const exited = once(child, 'exit');
    child.stdin?.end('stop\n');
    await exited;
  }

  async remove(): Promise<void> {
    await Promise.all([...this.#children].map((child) => this.stop(child)));
    await this.#program.remove();
  }
}
