/** How long a test waits for an expected event. */
const TIMEOUT_MS = 5_000;

/** Lets a test wait for an event instead of a time, and describes the state when it does not occur. */
export class Watch {
  readonly #checks = new Set<() => void>();

  /** Called when something has changed: all waiting callers check again. */
  notify(): void {
    for (const check of this.#checks) check();
  }

  /**
   * Resolves with the first result of `find` that is not undefined; rejects when it throws, or after the
   * timeout.
   */
  until<T>(find: () => T | undefined, what: () => string, timeoutMs = TIMEOUT_MS): Promise<T> {
    return new Promise((resolve, reject) => {
      const end = () => {
        clearTimeout(timer);
        this.#checks.delete(check);
      };
      const check = () => {
        try {
          const found = find();
          if (found === undefined) return;
          end();
          resolve(found);
        } catch (error) {
          end();
          reject(new Error(`no ${what()}`, { cause: error }));
        }
      };
      const timer = setTimeout(() => {
        end();
        reject(new Error(`${timeoutMs} ms passed without ${what()}`));
      }, timeoutMs);
      this.#checks.add(check);
      check();
    });
  }
}
