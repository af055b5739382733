import type { JWTPayload } from 'jose';
import type { TestServer } from '../../support/test-server.js';

/** The channel that the victim is in, subscribed to the table `notes`. Attackers may join it. */
export const CHANNEL = 'square';

/** The attacked server, a process of its own with a heap of 512 MB. Works with all clients of `tests/support`. */
export interface Target extends TestServer {
  readonly pid: number;
  /** Signs a token with any claims. */
  sign(claims: JWTPayload): Promise<string>;
  /** Runs statements in the server's database, as a superuser. */
  sql<Row extends object>(text: string): Promise<Row[]>;
}
