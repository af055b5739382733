export interface SnapshotLimits {
  /** Bytes of one snapshot. */
  readonly perSnapshot: number;
  /** Bytes of all snapshots of a user. */
  readonly perUser: number;
  /** Bytes of all snapshots. */
  readonly total: number;
}

const MB = 1024 * 1024;
export const SNAPSHOT_LIMITS: SnapshotLimits = {
  perSnapshot: 16 * MB,
  perUser: 64 * MB,
  total: 512 * MB,
};

/** The bytes that are kept for one snapshot. */
export interface Reservation {
  /** The snapshot has been read, and is this large: the rest of what was reserved for it is returned. */
  settle(bytes: number): void;
  /** Returns all of it. May be called repeatedly. */
  release(): void;
}

/** Bounds the bytes of snapshots that wait for their members to read them, by user and in all. */
export class SnapshotBudget {
  readonly #limits: SnapshotLimits;
  readonly #byUser = new Map<string, number>();
  #total = 0;
  #onReturned: () => void = () => undefined;

  constructor(limits: SnapshotLimits = SNAPSHOT_LIMITS) {
    this.#limits = limits;
  }

  /** Bytes that are reserved or used. */
  get bytes(): number {
    return this.#total;
  }

  /** Sets the function that is called when bytes were returned. */
  onReturned(callback: () => void): void {
    this.#onReturned = callback;
  }

  /** Whether another snapshot of the user can be reserved. */
  hasRoom(user: string): boolean {
    const { perSnapshot, perUser, total } = this.#limits;
    return this.#bytesOf(user) + perSnapshot <= perUser && this.#total + perSnapshot <= total;
  }

  /** Reserves the largest size of a snapshot, before its size is known. Throws if there is no room. */
  reserve(user: string): Reservation {
    if (!this.hasRoom(user)) throw new Error('the budget of snapshots is used up');
    let held = this.#limits.perSnapshot;
    this.#add(user, held);
    const reduceTo = (bytes: number) => {
      if (bytes >= held) return;
      this.#add(user, bytes - held);
      held = bytes;
      this.#onReturned();
    };
    return { settle: reduceTo, release: () => reduceTo(0) };
  }

  #bytesOf(user: string): number {
    return this.#byUser.get(user) ?? 0;
  }

  #add(user: string, bytes: number): void {
    this.#total += bytes;
    const left = this.#bytesOf(user) + bytes;
    if (left === 0) this.#byUser.delete(user);
    else this.#byUser.set(user, left);
  }
}
