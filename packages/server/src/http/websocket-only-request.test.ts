import { once } from 'node:events';
import { createServer, type IncomingMessage, request, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { UpgradeRequest } from './websocket-only-request.js';

let server: Server;
let upgrades: string[];

beforeEach(async () => {
  upgrades = [];
  server = createServer({ IncomingMessage: UpgradeRequest }, (incoming, response) => {
    incoming.setEncoding('utf8').on('data', (text: string) => response.write(text));
    incoming.on('end', () => response.end(` answered ${incoming.method}`));
  });
  server.on('upgrade', (incoming, socket) => {
    upgrades.push(incoming.headers.upgrade ?? '');
    socket.end('HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n');
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
});

afterEach(() => {
  server.closeAllConnections();
  server.close();
});

function ask(method: string, upgrade: string, body = '') {
  const { port } = server.address() as AddressInfo;
  const headers = { connection: 'Upgrade', upgrade, 'content-length': Buffer.byteLength(body) };
  const asked = request({ host: '127.0.0.1', port, method, headers });
  asked.end(body);
  return asked;
}

it.each([
  ['GET', ''],
  ['POST', '{"a":1}'],
])('%s with an upgrade to h2c is an ordinary request, body and all', async (method, body) => {
  const [response] = (await once(ask(method, 'h2c', body), 'response')) as [IncomingMessage];
  let text = '';
  for await (const chunk of response.setEncoding('utf8')) text += String(chunk);
  expect([response.statusCode, text, upgrades]).toEqual([200, `${body} answered ${method}`, []]);
});

it('an upgrade to WebSocket goes to the upgrade listener', async () => {
  const [response] = (await once(ask('GET', 'WebSocket'), 'upgrade')) as [IncomingMessage];
  response.destroy();
  expect(upgrades).toEqual(['WebSocket']);
});
