import type { Log } from '../lib/log.js';

/** Under npm, Ctrl-C arrives twice within milliseconds: signals within this time count as one. */
const ONE_SIGNAL_MS = 1_000;
/** SIGHUP: a closed terminal would otherwise leave the embedded PostgreSQL running. */
const SIGNALS = ['SIGINT', 'SIGTERM', 'SIGHUP'];
const CRASHES = ['uncaughtException', 'unhandledRejection'];

/** The parts of `process` that it uses. */
interface Host {
  on(event: string, listener: (value: unknown) => void): unknown;
  exit(code: number): unknown;
}

/**
 * Requests an orderly stop on a signal or an uncaught error. A second signal after a second, or a stop that takes
 * longer than the timeout, exits at once.
 */
export class StopSignal {
  readonly #log: Log;
  readonly #timeoutMs: number;
  readonly #host: Host;
  readonly #controller = new AbortController();
  readonly requested: Promise<void>;
  #requestedAt = 0;
  exitCode = 0;

  constructor(log: Log, timeoutMs: number, host: Host = process) {
    this.#log = log;
    this.#timeoutMs = timeoutMs;
    this.#host = host;
    this.requested = new Promise((resolve) =>
      this.signal.addEventListener('abort', () => resolve(), { once: true }),
    );
    for (const name of SIGNALS) host.on(name, () => this.#receive(name));
    for (const event of CRASHES) host.on(event, (error) => this.#crash(error));
  }

  get signal(): AbortSignal {
    return this.#controller.signal;
  }

  #receive(name: string): void {
    if (!this.signal.aborted) this.#request();
    else if (performance.now() - this.#requestedAt > ONE_SIGNAL_MS) {
      this.#log.warn({ signal: name }, 'Stopping at once');
      this.#host.exit(1);
    }
  }

  #request(): void {
    this.#requestedAt = performance.now();
    // Whatever is left by then hangs; the database recovers at the next start.
    setTimeout(() => this.#host.exit(this.exitCode), this.#timeoutMs).unref();
    this.#controller.abort();
  }

  /** The state is unknown after this: stops in order where possible, and exits with 1 for the supervisor. */
  #crash(error: unknown): void {
    this.#log.error({ err: error }, 'Uncaught error: stopping the server');
    this.exitCode = 1;
    if (!this.signal.aborted) this.#request();
  }
}
