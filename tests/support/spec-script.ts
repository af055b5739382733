import { createContext, runInContext } from 'node:vm';
import { WebSocket } from 'ws';

/** A script of the document in a world of its own: what it logs is kept, and its clock runs as a test wants. */
export class SpecScript {
  readonly logged: string[] = [];
  readonly errors: string[] = [];
  readonly #context;
  readonly #timers = new Set<NodeJS.Timeout>();

  /**
   * @param globals What the script finds beside the console, timers and `WebSocket`.
   * @param ms How long a timer of the script takes here, in ms; as long as it says unless told otherwise.
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

  /** Runs a text; the answer is the value of its last expression. */
  run<T>(text: string): T {
    return runInContext(text, this.#context) as T;
  }

  /** Ends the timers that the script left running. */
  stop(): void {
    for (const timer of this.#timers) clearTimeout(timer);
  }
}

function textOf(value: unknown): string {
  return value instanceof Error ? value.message : (JSON.stringify(value) ?? String(value));
}
