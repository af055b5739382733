import { once } from 'node:events';
import type { IncomingMessage, RequestListener, Server, ServerResponse } from 'node:http';
import { type AddressInfo, connect, type Socket } from 'node:net';
import { afterEach, describe, expect, test } from 'vitest';
import { parseIpRange } from '../lib/ip-range.js';
import { answerBrokenRequests } from './broken-requests.js';
import { HttpSockets } from './http-sockets.js';
import { MAX_PIPELINED } from './request-queue.js';
import { SocketLimits, socketAllowance } from './socket-limits.js';

/** More than the buffers of the system take. */
const LARGE = Buffer.alloc(32 * 1024 * 1024, 'x');
const servers: Server[] = [];
const clients: Socket[] = [];

afterEach(async () => {
  for (const client of clients.splice(0)) client.destroy();
  for (const server of servers.splice(0)) {
    server.closeAllConnections();
    server.close();
    await once(server, 'close');
  }
});

interface Started {
  readonly server: Server;
  readonly sockets: HttpSockets;
  readonly destroyed: string[];
  readonly port: number;
}

async function start(
  handle: RequestListener,
  { maxConnections = 10, maxConnectionsPerIp = 10, trusted = '' } = {},
): Promise<Started> {
  const destroyed: string[] = [];
  const range = parseIpRange(trusted);
  const sockets = new HttpSockets({
    limits: new SocketLimits({
      maxConnections,
      maxConnectionsPerIp,
      trustedProxies: range === undefined ? [] : [range],
    }),
    counters: { destroyed: (reason) => destroyed.push(reason) },
    clock: () => 0,
    log: {
      debug: ignore,
      info: ignore,
      warn: ignore,
      error: ignore,
      child: () => Object.create(null) as never,
    },
  });
  const server = sockets.createServer(handle);
  server.on('clientError', answerBrokenRequests(sockets, { refused: ignore }));
  servers.push(server);
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  return { server, sockets, destroyed, port: (server.address() as AddressInfo).port };
}

function ignore(): void {
  return;
}

/** A client that never closes by itself. */
function open({ port }: Pick<Started, 'port'>): Socket {
  const client = connect({ host: '127.0.0.1', port, allowHalfOpen: true });
  client.on('error', ignore);
  clients.push(client);
  return client;
}

function text(socket: Socket): () => string {
  let received = '';
  socket.on('data', (chunk) => {
    received += String(chunk);
  });
  return () => received;
}

const GET = 'GET / HTTP/1.1\r\nHost: x\r\n\r\n';
const ok: RequestListener = ({ url }, response) => {
  if (url !== '/held') response.end('ok');
};

/** A handler that answers nothing until the test does. */
class Held {
  readonly #waiting: ServerResponse[] = [];
  #arrived: (() => void) | undefined;

  readonly handle: RequestListener = (_request: IncomingMessage, response) => {
    this.#waiting.push(response);
    this.#arrived?.();
  };

  get started(): number {
    return this.#waiting.length;
  }

  async response(index: number): Promise<ServerResponse> {
    for (;;) {
      const response = this.#waiting[index];
      if (response !== undefined) return response;
      await new Promise<void>((resolve) => {
        this.#arrived = resolve;
      });
    }
  }
}

describe('pipelined requests', () => {
  test('of one socket are handled one after the other', async () => {
    const held = new Held();
    const started = await start(held.handle);
    const client = open(started);
    const received = text(client);
    client.write(GET.repeat(3));
    for (const n of [0, 1, 2]) {
      const response = await held.response(n);
      expect(held.started).toBe(n + 1);
      response.end(`answer ${n}`);
      await once(response, 'close');
    }
    await once(client, 'data');
    expect([...received().matchAll(/answer \d/g)].flat()).toEqual(['answer 0', 'answer 1', 'answer 2']);
  });

  test(`are answered if there are ${MAX_PIPELINED}, and one more ends the socket`, async () => {
    const started = await start(ok);
    const enough = open(started);
    const received = text(enough);
    enough.write(GET.repeat(MAX_PIPELINED - 1) + GET.replace('\r\n\r\n', '\r\nConnection: close\r\n\r\n'));
    await once(enough, 'end');
    expect(received().match(/HTTP\/1\.1 200/g)).toHaveLength(MAX_PIPELINED);
    expect(started.destroyed).toEqual([]);
    const tooMany = open(started);
    tooMany.write(GET.repeat(1_000));
    await gone(tooMany);
    expect(started.destroyed).toEqual(['pipelined']);
  });

  test.each(['Expect: something', 'X: y', 'Expect: 100-continue'])(
    'count without Host and with %s as well',
    async (line) => {
      const held = new Held();
      const started = await start(held.handle);
      const client = open(started);
      client.write(GET + `GET / HTTP/1.1\r\n${line}\r\n\r\n`.repeat(MAX_PIPELINED));
      await gone(client);
      expect(started.destroyed).toEqual(['pipelined']);
    },
  );

  test('behind `Connection: close` are not handled', async () => {
    const held = new Held();
    const started = await start(held.handle);
    const client = open(started);
    client.resume();
    client.write(GET.repeat(2));
    const response = await held.response(0);
    response.setHeader('connection', 'close');
    response.end();
    await once(client, 'end');
    expect(held.started).toBe(1);
  });

  test('that are broken let the answers before them be written', async () => {
    const held = new Held();
    const started = await start(held.handle);
    const client = open(started);
    const received = text(client);
    client.write(`${GET}rubbish\r\n\r\n`);
    (await held.response(0)).end('whole');
    await once(client, 'end');
    expect(received()).toMatch(/^HTTP\/1\.1 200 [\s\S]*\r\n\r\nwhole$/);
  });
});

describe('an answer that is not read', () => {
  test('ends its socket after ten checks, also if the client goes on sending', async () => {
    const started = await start((_request, response) => response.end(LARGE));
    const client = open(started);
    client.pause();
    client.write(GET);
    const [socket] = (await once(started.server, 'request')) as [IncomingMessage];
    for (let check = 0; check <= 10; check++) {
      expect(socket.socket.destroyed).toBe(false);
      client.write('G');
      await waitForIo();
      started.sockets.check();
    }
    expect(socket.socket.destroyed).toBe(true);
    expect(started.destroyed).toEqual(['unread']);
  });

  test('does not, as long as some of it is read between checks', async () => {
    const started = await start((_request, response) => response.end(LARGE));
    const client = open(started);
    client.write(GET);
    let bytes = 0;
    for (let check = 0; check < 25; check++) {
      // One part of what the system buffers, so that it takes more of the answer.
      for (const end = bytes + 1024 * 1024; bytes < end; ) bytes += await readSome(client);
      await waitForIo();
      started.sockets.check();
    }
    expect(started.destroyed).toEqual([]);
    while (bytes < LARGE.length) bytes += await readSome(client);
  });

  test('ends its socket after one check while all of them together take too much memory', async () => {
    const started = await start((_request, response) => response.end(LARGE));
    for (let n = 0; n < 3; n++) {
      const client = open(started);
      client.pause();
      client.write(GET);
      await once(started.server, 'request');
    }
    await waitForIo();
    started.sockets.check();
    expect(started.destroyed).toEqual([]);
    started.sockets.check();
    expect(started.destroyed).toEqual(['unread', 'unread', 'unread']);
  });
});

describe('a socket whose peer does not close it is destroyed', () => {
  const ENDINGS: Record<string, string> = {
    'a request that is not HTTP': 'rubbish\r\n\r\n',
    'a header that is too large': `GET / HTTP/1.1\r\nHost: x\r\nX: ${'x'.repeat(20_000)}\r\n\r\n`,
    'a body that is not HTTP': 'POST /held HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n',
    'a request that was answered before its body': 'POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n',
    'chunks without end': 'POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n',
  };

  test.each(Object.entries(ENDINGS))('after %s', async (_what, request) => {
    const started = await start(ok);
    const client = open(started);
    const connection = once(started.server, 'connection');
    client.write(request);
    const [socket] = (await connection) as [Socket];
    await once(client, 'data');
    for (let check = 0; check < 2; check++) started.sockets.check();
    expect(socket.destroyed).toBe(false);
    started.sockets.check();
    expect(socket.destroyed).toBe(true);
  });

  test('but not if the rest of an answered request arrives', async () => {
    const started = await start(ok);
    const client = open(started);
    const connection = once(started.server, 'connection');
    client.write('POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n');
    const [socket] = (await connection) as [Socket];
    await once(client, 'data');
    for (let check = 0; check < 2; check++) started.sockets.check();
    client.write(`123456789${GET}`);
    await once(client, 'data');
    for (let check = 0; check < 5; check++) started.sockets.check();
    expect(socket.destroyed).toBe(false);
  });
});

describe('sockets', () => {
  test.each([
    ['one address', 'address', { maxConnections: 1_000, maxConnectionsPerIp: 2 }],
    ['all addresses', 'server', { maxConnections: 2 }],
    [
      'trusted proxies together',
      'server',
      { maxConnections: 2, maxConnectionsPerIp: 1, trusted: 'loopback' },
    ],
  ])('of %s are limited, and closing one makes room', async (_of, reason, limits) => {
    const started = await start(ok, limits);
    const opened: Socket[] = [];
    for (let n = 0; n < socketAllowance(2); n++) {
      const client = open(started);
      opened.push(client);
      await once(started.server, 'connection');
    }
    await gone(open(started));
    expect(started.destroyed).toEqual([reason]);
    const [first] = opened;
    first?.destroy();
    await eventuallyAnswered(started);
  });

  test('are a fifth more than WebSocket connections, and at least 64 more', () => {
    expect([1, 320, 1_000, 10_000].map(socketAllowance)).toEqual([65, 384, 1_200, 12_000]);
  });
});

/** Sends requests on new sockets until one is answered. */
async function eventuallyAnswered(started: Started): Promise<void> {
  for (;;) {
    const client = open(started);
    client.write(GET);
    const answered = await Promise.race([
      once(client, 'data').then(() => true),
      gone(client).then(() => false),
    ]);
    if (answered) return;
  }
}

/** Waits until the server has closed or destroyed the socket. */
async function gone(client: Socket): Promise<void> {
  client.resume();
  client.on('end', () => client.end());
  if (!client.closed) await once(client, 'close');
}

async function readSome(client: Socket): Promise<number> {
  const chunk: unknown = client.read();
  if (Buffer.isBuffer(chunk)) return chunk.length;
  await once(client, 'readable');
  return 0;
}

/** Waits until the event loop has handled the input and output that is ready. */
async function waitForIo(): Promise<void> {
  for (let turn = 0; turn < 3; turn++) await new Promise((resolve) => setImmediate(resolve));
}
