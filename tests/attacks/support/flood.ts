import { setTimeout as delay } from 'node:timers/promises';
import { WebSocket } from 'ws';
import { dial, type TestClient } from '../../support/test-client.js';
import type { Target } from './target.js';

interface Flood {
  readonly channel: string;
  readonly token: string;
  readonly perSecond: number;
  /** Makes the message with this `ref`. */
  readonly message: (ref: number) => string;
}

/**
 * Sends a message at a rate until the signal aborts, over a new connection whenever the server has closed the last one,
 * and cuts the connection then. Returns how many messages were sent, and how many were refused by a rate.
 */
export async function flood(
  target: Target,
  { channel, token, perSecond, message }: Flood,
  signal: AbortSignal,
): Promise<{ sent: number; refused: number }> {
  let sent = 0;
  let refused = 0;
  while (!signal.aborted) {
    const client = dial(target, channel, { token });
    await Promise.race([client.closed, new Promise((resolve) => client.socket.once('open', resolve))]);
    while (!signal.aborted && client.socket.readyState === WebSocket.OPEN) {
      client.send(message(sent));
      sent += 1;
      await delay(1_000 / perSecond, undefined, { signal }).catch(() => undefined);
    }
    refused += refusedOf(client);
    client.socket.terminate();
    await client.closed;
  }
  return { sent, refused };
}

function refusedOf(client: TestClient): number {
  return client.all('reply', 'error').filter(({ payload }) => payload.code === 'RATE_LIMIT_EXCEEDED').length;
}
