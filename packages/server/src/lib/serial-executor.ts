/** Runs the tasks of one key one at a time, in order; tasks of different keys run concurrently. */
export class SerialExecutor<Key extends WeakKey> {
  readonly #last = new WeakMap<Key, Promise<unknown>>();

  /** Runs `work` after the earlier tasks of this key have settled, even if they failed. */
  run<T>(key: Key, work: () => Promise<T>): Promise<T> {
    const before = this.#last.get(key) ?? Promise.resolve();
    const result = before.then(work);
    this.#last.set(
      key,
      result.catch(() => undefined),
    );
    return result;
  }
}
