/** How many connections a pool has, and how long its callers wait for one. */
interface PoolSize {
  readonly connections: number;
  /** How many callers may wait for a connection. */
  readonly waiting: number;
  /** How long a caller waits for a connection that others use, in ms. */
  readonly waitMs: number;
  /** Whether it refuses further work while too many of its statements could not be cancelled. */
  readonly refusesWhenAbandoned: boolean;
}

/**
 * The pools by purpose, so that work of one kind takes no connection from another. Work that users cause and that may
 * take long waits for longer than a statement of the server itself.
 */
export const POOLS = {
  /** The server's own statements: short, and bounded in what they cost. */
  own: { connections: 4, waiting: 256, waitMs: 5_000, refusesWhenAbandoned: false },
  /** Policies and conditions for live changes. */
  evaluation: { connections: 2, waiting: 16, waitMs: 5_000, refusesWhenAbandoned: true },
  /** Replays, snapshots and explanations. */
  replays: { connections: 3, waiting: 64, waitMs: 30_000, refusesWhenAbandoned: true },
  /** Whatever runs or plans the expression of a user outside the stream. */
  conditions: { connections: 2, waiting: 64, waitMs: 10_000, refusesWhenAbandoned: true },
} as const satisfies Readonly<Record<string, PoolSize>>;

export type PoolName = keyof typeof POOLS;

export const POOL_NAMES = [
  'own',
  'evaluation',
  'replays',
  'conditions',
] as const satisfies readonly PoolName[];

/** The connections of all pools together. */
export const POOLED_CONNECTIONS = POOL_NAMES.reduce((sum, name) => sum + POOLS[name].connections, 0);
