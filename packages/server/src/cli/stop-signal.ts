import type { Log } from '../lib/log.js';

/** Ctrl-C reaches us twice, from npm and from the terminal, within milliseconds: signals so close together are one. */
const ONE_SIGNAL_MS = 1_000;
/** A closed terminal hangs up; without a word it would leave PostgreSQL running. */
const SIGNALS = ['SIGINT', 'SIGTERM', 'SIGHUP'];
const CRASHES = ['uncaughtException', 'unhandledRejection'];

/** The process, as far as it matters here. */
interface Host {
  on(event: string, listener: (value: unknown) => void): unknown;
  exit(code: number): unknown;
}

/**
 * The end of the process: asked for by a signal, or forced by an error that nobody caught. A later second
 * signal, or a stop that takes longer than it may, ends the process at once.
 */
export class StopSignal {
  readonly #log: Log;
  readonly #timeoutMs: number;
  readonly #host: Host;
  readonly #controller = new AbortController();
  readonly asked: Promise<void>;
  #askedAt = 0;
  exitCode = 0;

  constructor(log: Log, timeoutMs: number, host: Host = process) {
    this.#log = log;
    this.#timeoutMs = timeoutMs;
    this.#host = host;
    this.asked = new Promise((resolve) =>
      this.signal.addEventListener('abort', () => resolve(), { once: true }),
    );
    for (const name of SIGNALS) host.on(name, () => this.#receive(name));
    for (const event of CRASHES) host.on(event, (error) => this.#crash(error));
  }

  get signal(): AbortSignal {
    return this.#controller.signal;
  }

  #receive(name: string): void {
    if (!this.signal.aborted) this.#ask();
    else if (performance.now() - this.#askedAt > ONE_SIGNAL_MS) {
      this.#log.warn({ signal: name }, 'Stopping at once');
      this.#host.exit(1);
    }
  }

  #ask(): void {
    this.#askedAt = performance.now();
    // What is left after this long hangs; the database recovers by itself at the next start.
    setTimeout(() => this.#host.exit(this.exitCode), this.#timeoutMs).unref();
    this.#controller.abort();
  }

  /** The state is unknown: an orderly stop is tried, and the exit code tells whoever supervises. */
  #crash(error: unknown): void {
    this.#log.error({ err: error }, 'An error that nobody caught ends the server');
    this.exitCode = 1;
    if (!this.signal.aborted) this.#ask();
  }
}
