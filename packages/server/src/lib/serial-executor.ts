/** Work for one key after the other, in the order in which it was asked for; work for different keys does not wait. */
export class SerialExecutor<Key extends WeakKey> {
  readonly #last = new WeakMap<Key, Promise<unknown>>();

  /** Does the work when what was asked for earlier has ended, well or not. */
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
