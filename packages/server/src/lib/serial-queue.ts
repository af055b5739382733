interface Task {
  start(): Promise<void>;
  drop(reason: unknown): void;
}

/** Runs tasks one at a time, in order. Tasks that wait can be dropped, which releases their memory at once. */
export class SerialQueue {
  #waiting: Task[] = [];
  #isRunning = false;

  /** Runs `work` after the earlier tasks have settled, even if they failed. */
  run<T>(work: () => Promise<T>): Promise<T> {
    return new Promise((resolve, reject) => {
      this.#waiting.push({ start: () => work().then(resolve, reject), drop: reject });
      if (!this.#isRunning) void this.#run();
    });
  }

  /** Rejects all tasks that wait; the running one goes on. */
  drop(reason: unknown): void {
    const dropped = this.#waiting;
    this.#waiting = [];
    for (const task of dropped) task.drop(reason);
  }

  async #run(): Promise<void> {
    this.#isRunning = true;
    for (let task = this.#waiting.shift(); task !== undefined; task = this.#waiting.shift())
      await task.start();
    this.#isRunning = false;
  }
}
