import pg from 'pg';
import { ConnectionPool, type PoolEvents, type PoolUse } from './connection-pool.js';
import { POOL_NAMES, type PoolName } from './pool-sizes.js';

/** How long PostgreSQL may take to answer a new connection when it is suspected to be unreachable, in ms. */
const PROBE_MS = 2_000;

/**
 * The pools of all purposes, for as long as the database stays reachable. When one connection is lost, the caller
 * discards all of them: a connection through a dead network looks healthy until a query waits for its answer.
 */
export class ConnectionPools {
  readonly #options: pg.ClientConfig;
  readonly #events: Omit<PoolEvents, 'silent'>;
  readonly #pools: Readonly<Record<PoolName, ConnectionPool>>;
  #probe: Promise<void> | undefined;

  constructor(options: pg.ClientConfig, events: Omit<PoolEvents, 'silent'>) {
    this.#options = options;
    this.#events = events;
    const poolOf = (name: PoolName) =>
      new ConnectionPool(name, options, { ...events, silent: () => void this.checkAnswers() });
    this.#pools = {
      own: poolOf('own'),
      evaluation: poolOf('evaluation'),
      replays: poolOf('replays'),
      conditions: poolOf('conditions'),
    };
  }

  get(name: PoolName): ConnectionPool {
    return this.#pools[name];
  }

  uses(): [PoolName, PoolUse][] {
    return POOL_NAMES.map((name) => [name, this.#pools[name].use]);
  }

  async close(): Promise<void> {
    await Promise.all(POOL_NAMES.map((name) => this.#pools[name].close()));
  }

  /** Connects once more. If PostgreSQL answers, the other statement is only slow, which says nothing about the database. */
  checkAnswers(): Promise<void> {
    this.#probe ??= this.#connectOnce().finally(() => {
      this.#probe = undefined;
    });
    return this.#probe;
  }

  async #connectOnce(): Promise<void> {
    const client = new pg.Client({ ...this.#options, connectionTimeoutMillis: PROBE_MS });
    client.on('error', () => undefined);
    try {
      await client.connect();
    } catch (error) {
      // A refusal is an answer too.
      if (!(error instanceof Error) || error instanceof pg.DatabaseError) return;
      this.#events.lost(error);
      for (const name of POOL_NAMES) this.#pools[name].destroySockets();
    } finally {
      client.end().catch(() => undefined);
    }
  }
}
