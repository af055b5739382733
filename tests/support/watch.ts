/** How long a test waits for what must come. */
const PATIENCE_MS = 5_000;

/** Lets a test wait until something has come instead of for time, and fail with what has come in its place. */
export class Watch {
  readonly #looks = new Set<() => void>();

  /** Something has changed: everyone who waits looks again. */
  notify(): void {
    for (const look of this.#looks) look();
  }

  /** Resolves with the first answer of `find` that is not undefined; rejects with what it throws, or when patience ends. */
  until<T>(find: () => T | undefined, what: () => string, patienceMs = PATIENCE_MS): Promise<T> {
    return new Promise((resolve, reject) => {
      const end = () => {
        clearTimeout(timer);
        this.#looks.delete(look);
      };
      const look = () => {
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
        reject(new Error(`${patienceMs} ms passed without ${what()}`));
      }, patienceMs);
      this.#looks.add(look);
      look();
    });
  }
}
