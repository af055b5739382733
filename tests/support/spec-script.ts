import { createContext, runInContext } from 'node:vm';
import { WebSocket } from 'ws';

/**
 * Runs a script of the document in a VM context of its own, keeps what it logs and can speed up its timers.
 */
export class SpecScript {
  readonly logged: string[] = [];
  readonly errors: string[] = [];
  readonly #context;
  readonly #timers = new Set<NodeJS.Timeout>();

  /**
   * @param globals Further globals, besides the console, timers and `WebSocket`.
   * @param ms Maps the delay that the script asks for to the actual delay, both in ms. Default: unchanged.
   */
  constructor(
    globals: Readonly<Record<string, unknown>> = {},
    ms: (asked: number) => number = (asked) => asked,
  ) {
    const write =
      (to: string[]) =>
      (...parts: unknown[]) => {
        to.push(parts.map((part) => (typeof part === 'string' ? part : textOf(part))).join(' '));
      };
    const keep = (timer: NodeJS.Timeout) => {
      this.#timers.add(timer);
      return timer;
    };
    this.#context = createContext({
      WebSocket,
      console: { log: write(this.logged), error: write(this.errors) },
      setTimeout: (act: () => void, asked: number) => keep(setTimeout(act, ms(asked))),
      setInterval: (act: () => void, asked: number) => keep(setInterval(act, ms(asked))),
      ...globals,
    });
  }

  /** Runs a text and returns the value of its last expression. */
  run<T>(text: string): T {
    return runInContext(text, this.#context) as T;
  }

  /** Clears the timers that the script left running. */
  stop(): void {
    for (const timer of this.#timers) clearTimeout(timer);
  }
}

function textOf(value: unknown): string {
  return value instanceof Error ? value.message : (JSON.stringify(value) ?? String(value));
}
