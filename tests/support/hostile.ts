import { randomInt } from 'node:crypto';
import fc from 'fast-check';
import { expect } from 'vitest';
import type { RecordingLog } from './recording-log.js';
import { join, type TestClient } from './test-client.js';
import type { TestServer } from './test-server.js';

/** The seed of all random inputs; `HOSTILE_SEED=<n>` repeats a run. */
export const SEED = Number(process.env.HOSTILE_SEED ?? randomInt(2 ** 31));
const INPUTS = 500;
const AT_ONCE = 25;

/** Settings with which only the transport's limits can refuse an input. */
export const WITHOUT_LIMITS = {
  REALTIME_CONNECTION_RATE: '100000/s, burst 100000',
  REALTIME_HTTP_RATE: '100000/s, burst 100000',
  REALTIME_MESSAGE_RATE: '100000/s, burst 100000',
  REALTIME_MAX_CONNECTIONS_PER_USER: '10000',
  REALTIME_MAX_CONNECTIONS_PER_IP: '10000',
  REALTIME_MAX_USERS_PER_CHANNEL: '10000',
};

/** Generates the random inputs of one class. */
export function inputsOf<T>(arbitrary: fc.Arbitrary<T>): T[] {
  return fc.sample(arbitrary, { seed: SEED, numRuns: INPUTS });
}

/** Splits `inputs` into parts of at most `size`. */
export function parts<T>(inputs: readonly T[], size: number): T[][] {
  const count = Math.ceil(inputs.length / size);
  return Array.from({ length: count }, (_, i) => inputs.slice(i * size, (i + 1) * size));
}

/** Runs `attack` with every input, several at once. */
export async function withEach<T>(inputs: readonly T[], attack: (input: T) => Promise<void>): Promise<void> {
  for (const some of parts(inputs, AT_ONCE)) await Promise.all(some.map(attack));
}

/** Two clients that exchange messages in the attacked channel and must not be affected. */
export class Bystanders {
  readonly #server: TestServer;
  readonly #log: RecordingLog;
  readonly #clients: readonly TestClient[];
  #exchanges = 0;

  private constructor(server: TestServer, log: RecordingLog, clients: readonly TestClient[]) {
    this.#server = server;
    this.#log = log;
    this.#clients = clients;
  }

  static async in(channel: string, server: TestServer, log: RecordingLog): Promise<Bystanders> {
    const users = ['bystander-1', 'bystander-2'];
    const query = 'presence=none';
    return new Bystanders(
      server,
      log,
      await Promise.all(users.map((user) => join(server, channel, user, { query }))),
    );
  }

  /**
   * Fails unless each client receives the messages of both, the server answers, and it has logged no error.
   */
  async noticeNothing(): Promise<void> {
    const n = ++this.#exchanges;
    for (const speaker of this.#clients) {
      speaker.send({ type: 'message', event: 'bystander', payload: { n } });
      const received = await Promise.all(this.#clients.map((client) => client.next('message', 'bystander')));
      const expected = { payload: { n }, user_id: received[0]?.user_id };
      for (const message of received) expect(message).toMatchObject(expected);
    }
    for (const client of this.#clients) expect(client.all('system', 'error')).toEqual([]);
    expect((await this.#server.call('GET', '/healthz')).status).toBe(200);
    expect(this.#log.errors).toEqual([]);
  }
}
