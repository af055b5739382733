export interface FairQueueLimits {
  /** How many tasks run at once. */
  readonly atOnce: number;
  /** How many tasks of one user run at once. */
  readonly perUser: number;
  /**
   * Whether the next task of a user may start now; default: yes. What a task does before its first `await` is done before
   * this is asked again. When an answer has changed, `startWaiting` asks all again.
   */
  readonly admits?: (user: string) => boolean;
}

interface Task {
  start(): void;
}

/**
 * Runs a limited number of tasks at once, in which users take turns: a user with many waiting tasks delays another user
 * by no more than one round. The queue itself is unbounded: its callers bound what waits.
 */
export class FairQueue {
  readonly #limits: FairQueueLimits;
  /** The waiting tasks of each user. The first user that has fewer than `perUser` running is next. */
  readonly #waiting = new Map<string, Task[]>();
  readonly #runningByUser = new Map<string, number>();
  #running = 0;

  constructor(limits: FairQueueLimits) {
    this.#limits = limits;
  }

  /** How many tasks have not started. */
  get waitingCount(): number {
    let count = 0;
    for (const tasks of this.#waiting.values()) count += tasks.length;
    return count;
  }

  /** Runs `work` when it is the user's turn. Rejects with the reason of `signal`, without a start, if that aborts before. */
  async run<T>(user: string, work: () => Promise<T>, signal?: AbortSignal): Promise<T> {
    signal?.throwIfAborted();
    return new Promise<T>((resolve, reject) => {
      const task = {
        start: () => {
          signal?.removeEventListener('abort', onAbort);
          this.#work(user, work).then(resolve, reject);
        },
      };
      const onAbort = () => {
        this.#remove(user, task);
        reject(signal?.reason);
      };
      signal?.addEventListener('abort', onAbort);
      const own = this.#waiting.get(user);
      if (own === undefined) this.#waiting.set(user, [task]);
      else own.push(task);
      this.startWaiting();
    });
  }

  /** Starts the tasks that the limits allow. */
  startWaiting(): void {
    for (let next = this.#next(); next !== undefined; next = this.#next()) {
      const { user, task } = next;
      this.#running += 1;
      this.#runningByUser.set(user, (this.#runningByUser.get(user) ?? 0) + 1);
      this.#remove(user, task);
      task.start();
    }
  }

  #next(): { readonly user: string; readonly task: Task } | undefined {
    const { atOnce, perUser, admits = () => true } = this.#limits;
    if (this.#running >= atOnce) return undefined;
    for (const [user, [task]] of this.#waiting) {
      const running = this.#runningByUser.get(user) ?? 0;
      if (task !== undefined && running < perUser && admits(user)) return { user, task };
    }
    return undefined;
  }

  async #work<T>(user: string, work: () => Promise<T>): Promise<T> {
    try {
      return await work();
    } finally {
      this.#ended(user);
    }
  }

  /** Removes a waiting task. The user's other tasks go behind those of the other users. */
  #remove(user: string, task: Task): void {
    const left = (this.#waiting.get(user) ?? []).filter((other) => other !== task);
    this.#waiting.delete(user);
    if (left.length > 0) this.#waiting.set(user, left);
  }

  #ended(user: string): void {
    const running = (this.#runningByUser.get(user) ?? 1) - 1;
    if (running === 0) this.#runningByUser.delete(user);
    else this.#runningByUser.set(user, running);
    this.#running -= 1;
    this.startWaiting();
  }
}
