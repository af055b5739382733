import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';

/** How long a start may take: the first one installs and builds. */
const START_PATIENCE_MS = 170_000;

export interface ProcessOptions {
  readonly cwd: string;
  readonly env?: Readonly<Record<string, string>>;
  readonly uid?: number;
  readonly gid?: number;
}

/** A server as a process of its own, started by a command line. */
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
      // As on a terminal: the banner is for people, and not printed beside JSON logs.
      env: { ...inherited, REALTIME_LOG_FORMAT: 'pretty', ...env },
      stdio: ['ignore', 'pipe', 'pipe'],
      // A group of its own, so that a Ctrl-C can be sent to all of it, as a terminal does.
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
    const patience = AbortSignal.timeout(START_PATIENCE_MS);
    let ended = false;
    void this.#exited.then(() => {
      ended = true;
    });
    const { stdout, stderr } = this.#child;
    if (stdout === null || stderr === null) throw new Error('no output');
    while (this.#record === undefined && !this.stdout.includes('Ctrl-C stops the server')) {
      if (ended || patience.aborted)
        throw new Error(`the server did not start:\n${this.stdout}\n${this.stderr}`);
      await Promise.race([once(stdout, 'data'), once(stderr, 'data'), this.#exited, once(patience, 'abort')]);
    }
  }

  /** What a JSON log has instead of the startup banner. */
  get #record(): Readonly<Record<string, string>> | undefined {
    const line = this.stderr.split('\n').find((text) => text.includes('"msg":"Server started"'));
    return line?.endsWith('}') ? (JSON.parse(line) as Record<string, string>) : undefined;
  }

  /** A line of the startup banner, by its name. */
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

  /** Ends npm, its shell and the server at once, without a word. */
  destroy(): void {
    process.kill(-this.pid, 'SIGKILL');
  }

  /** As a terminal does on Ctrl-C: to the whole group at once. */
  interrupt(): void {
    process.kill(-this.pid, 'SIGINT');
  }
}
