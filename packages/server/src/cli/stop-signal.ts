import type { Log } from '../lib/log.js';

/** Ctrl-C reaches us twice, from npm and from the terminal, within milliseconds: signals so close together are one. */
const ONE_SIGNAL_MS = 1_000;

/**
 * The end of the process: asked for by SIGTERM or SIGINT, or forced by an error that nobody caught. A later
 * second signal, or a stop that takes longer than it may, ends the process at once.
 */
export class StopSignal {
  readonly #log: Log;
  readonly #timeoutMs: number;
  readonly #controller = new AbortController();
  readonly asked: Promise<void>;
  #askedAt = 0;
  exitCode = 0;

  constructor(log: Log, timeoutMs: number) {
    this.#log = log;
    this.#timeoutMs = timeoutMs;
    this.asked = new Promise((resolve) =>
      this.signal.addEventListener('abort', () => resolve(), { once: true }),
    );
    for (const name of ['SIGINT', 'SIGTERM'] as const) process.on(name, () => this.#receive(name));
    for (const event of ['uncaughtException', 'unhandledRejection'] as const) {
      process.on(event, (error: unknown) => this.#crash(error));
    }
  }

  get signal(): AbortSignal {
    return this.#controller.signal;
  }

  #receive(name: string): void {
    if (!this.signal.aborted) this.#ask();
    else if (performance.now() - this.#askedAt > ONE_SIGNAL_MS) {
      this.#log.warn({ signal: name }, 'Stopping at once');
      process.exit(1);
    }
  }

  #ask(): void {
    this.#askedAt = performance.now();
    // What is left after this long hangs; the database recovers by itself at the next start.
    setTimeout(() => process.exit(this.exitCode), this.#timeoutMs).unref();
    this.#controller.abort();
  }

  /** The state is unknown: an orderly stop is tried, and the exit code tells whoever supervises. */
  #crash(error: unknown): void {
    this.#log.error({ err: error }, 'An error that nobody caught ends the server');
    this.exitCode = 1;
    if (!this.signal.aborted) this.#ask();
  }
}
