import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';

/** How long a start may take; the first start of a clone installs and builds. */
const START_TIMEOUT_MS = 170_000;

export interface ProcessOptions {
  readonly cwd: string;
  readonly env?: Readonly<Record<string, string>>;
  readonly uid?: number;
  readonly gid?: number;
}

/** A server in a child process, started by a command line. */
export class ServerProcess {
  readonly #child: ChildProcess;
  readonly #exited: Promise<number | null>;
  stdout = '';
  stderr = '';

  constructor(command: string, args: readonly string[], { cwd, env = {}, ...account }: ProcessOptions) {
    const inherited = Object.fromEntries(
      Object.entries(process.env).filter(([name]) => !/^(REALTIME_|DATABASE_URL$|npm_|NODE_)/.test(name)),
    );
    this.#child = spawn(command, [...args], {
      cwd,
      // Pretty logs, as on a terminal, because the server prints no startup banner with JSON logs.
      env: { ...inherited, REALTIME_LOG_FORMAT: 'pretty', ...env },
      stdio: ['ignore', 'pipe', 'pipe'],
      // A process group of its own, so that Ctrl-C can be sent to the whole group, as a terminal does.
      detached: true,
      ...account,
    });
    this.#child.stdout?.setEncoding('utf8').on('data', (text: string) => {
      this.stdout += text;
    });
    this.#child.stderr?.setEncoding('utf8').on('data', (text: string) => {
      this.stderr += text;
    });
    this.#exited = once(this.#child, 'close').then(([code]) => code as number | null);
  }

  /** The exit code; null when a signal ended it. */
  get exited(): Promise<number | null> {
    return this.#exited;
  }

  get pid(): number {
    if (this.#child.pid === undefined) throw new Error('the process did not start');
    return this.#child.pid;
  }

  /** Waits until the startup banner is printed, or, with JSON logs, the record in its place is logged. */
  async started(): Promise<void> {
    const timeout = AbortSignal.timeout(START_TIMEOUT_MS);
    let ended = false;
    void this.#exited.then(() => {
      ended = true;
    });
    const { stdout, stderr } = this.#child;
    if (stdout === null || stderr === null) throw new Error('no output');
    while (this.#record === undefined && !this.stdout.includes('Ctrl-C stops the server')) {
      if (ended || timeout.aborted)
        throw new Error(`the server did not start:\n${this.stdout}\n${this.stderr}`);
      await Promise.race([once(stdout, 'data'), once(stderr, 'data'), this.#exited, once(timeout, 'abort')]);
    }
  }

  /** The record that a JSON log has instead of the startup banner. */
  get #record(): Readonly<Record<string, string>> | undefined {
    const line = this.stderr.split('\n').find((text) => text.includes('"msg":"Server started"'));
    return line?.endsWith('}') ? (JSON.parse(line) as Record<string, string>) : undefined;
  }

  /** Returns the value of a line of the startup banner. */
  line(name: string): string {
    const value =
      this.#record?.[name.toLowerCase()] ?? new RegExp(`^ *${name} +(.+)$`, 'm').exec(this.stdout)?.[1];
    if (value === undefined) throw new Error(`no line "${name}" in:\n${this.stdout}\n${this.stderr}`);
    return value;
  }

  /** `http://localhost:<port>`, from the startup banner. */
  get url(): string {
    return this.line('Page').replace(/\/$/, '');
  }

  kill(signal: NodeJS.Signals): void {
    this.#child.kill(signal);
  }

  /** Kills npm, its shell and the server with SIGKILL. */
  destroy(): void {
    process.kill(-this.pid, 'SIGKILL');
  }

  /** Sends SIGINT to the whole process group, as a terminal does on Ctrl-C. */
  interrupt(): void {
    process.kill(-this.pid, 'SIGINT');
  }
}
