import { type ChildProcess, spawn } from 'node:child_process';
import { createInterface, type Interface } from 'node:readline';
import { buildProgram, type Program } from '../../support/program.js';
import type { VictimOptions, VictimReport } from './victim-entry.js';

/**
 * An honest user beside the attack, in a process of its own: the attack's work in this process must not look like a slow
 * server.
 */
export class Victim {
  readonly #program: Program;
  readonly #child: ChildProcess;
  readonly #lines: AsyncIterator<string>;

  private constructor(program: Program, child: ChildProcess, lines: Interface) {
    this.#program = program;
    this.#child = child;
    this.#lines = lines[Symbol.asyncIterator]();
  }

  /** Resolves when the victim has joined its channel. */
  static async start(options: VictimOptions): Promise<Victim> {
    const program = await buildProgram('attacks/support/victim-entry.ts');
    const child = spawn(process.execPath, [program.file, JSON.stringify(options)], {
      stdio: ['pipe', 'pipe', 'inherit'],
    });
    const victim = new Victim(program, child, createInterface(child.stdout));
    await victim.#line();
    return victim;
  }

  /** What the victim measures from now on belongs to this phase. */
  begin(phase: string): void {
    this.#child.stdin?.write(`${phase}\n`);
  }

  /** Waits until everything that the victim sent is answered, and ends the process. */
  async stop(): Promise<VictimReport> {
    this.#child.stdin?.end('stop\n');
    return JSON.parse(await this.#line()) as VictimReport;
  }

  async remove(): Promise<void> {
    this.#child.kill('SIGKILL');
    await this.#program.remove();
  }

  async #line(): Promise<string> {
    const { value, done } = await this.#lines.next();
    if (done === true) throw new Error('the victim has ended');
    return value;
  }
}
