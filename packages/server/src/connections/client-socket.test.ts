import { once } from 'node:events';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { WebSocket, WebSocketServer } from 'ws';
import { ClientSocket } from './client-socket.js';

const MESSAGE_BYTES = 32 * 1024;
const MESSAGES = 100;

const http = createServer();
const server = new WebSocketServer({ server: http, WebSocket: ClientSocket, perMessageDeflate: false });
let client: WebSocket;
/** The bytes that were received in each tick of the event loop. */
let bytesByTick: number[];
let total: number;

beforeEach(async () => {
  bytesByTick = [0];
  total = 0;
  http.listen(0, '127.0.0.1');
  await once(http, 'listening');
  server.once('connection', (socket) => {
    socket.attach({
      received: ({ length }) => {
        bytesByTick[bytesByTick.length - 1] = (bytesByTick.at(-1) ?? 0) + length;
        total += length;
        return 0;
      },
      pinged: () => undefined,
      ponged: () => undefined,
      closeRequested: () => undefined,
    });
  });
  client = new WebSocket(`ws://127.0.0.1:${(http.address() as AddressInfo).port}`);
  await once(client, 'open');
});
afterEach(() => {
  client.terminate();
  server.close();
  http.close();
});

it('brings no more than two reads of messages in a tick, whatever its peer has sent, and loses none', async () => {
  for (let n = 0; n < MESSAGES; n++) client.send(Buffer.alloc(MESSAGE_BYTES));
  while (total < MESSAGES * MESSAGE_BYTES) {
    await new Promise((resolve) => setImmediate(resolve));
    bytesByTick.push(0);
  }
  expect(total).toBe(MESSAGES * MESSAGE_BYTES);
  expect(Math.max(...bytesByTick)).toBeLessThanOrEqual(4 * MESSAGE_BYTES);
});
