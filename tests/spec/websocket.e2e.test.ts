import { execFile } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { loadSettings } from '@goforward/realtime';
import { afterAll, beforeAll, describe, expect, onTestFinished, test } from 'vitest';
import { type RawData, WebSocket } from 'ws';
import { eventually } from '../support/eventually.js';
import { run } from '../support/row-changes.js';
import { filledIn, hasSpecDocument, SpecDocument, specTitle } from '../support/spec-document.js';
import { SpecScript } from '../support/spec-script.js';
import { departures } from '../support/spec-shape.js';
import { join } from '../support/test-client.js';
import {
  type AnyAnswer,
  startRowChangeServer,
  startTestServer,
  type TestServer,
} from '../support/test-server.js';

const ROOT = fileURLToPath(new URL('../../', import.meta.url));

/** The members of the document's client class that tests use. */
interface SpecClient {
  ws: WebSocket;
  connect(): void;
  sendMessage(event: string, payload: unknown): void;
  ping(): void;
  disconnect(): void;
}

interface SpecMonitor {
  metrics: Record<string, number | null>;
  pingInterval: NodeJS.Timeout;
  startMonitoring(): void;
  onMessageSent(): void;
  onMessageReceived(): void;
  getMetrics(): Record<string, number | null>;
}

describe.skipIf(!hasSpecDocument)(specTitle('WebSocket examples of the spec, in Node'), () => {
  let spec: SpecDocument;
  let server: TestServer;
  let token: string;

  beforeAll(async () => {
    spec = SpecDocument.read();
    server = await startTestServer();
    token = await server.token('user123');
  });

  afterAll(() => server.stop());

  function script(...options: ConstructorParameters<typeof SpecScript>): SpecScript {
    const made = new SpecScript(...options);
    onTestFinished(() => made.stop());
    return made;
  }

  /** Returns the document's client class without the lines below it that use it. */
  function clientClass(at: TestServer = server, withToken = token): string {
    const [definition = ''] = spec.block('JavaScript Client', 'javascript').split('// Usage');
    return filledIn(definition, at.port, withToken);
  }

  test('section 2: both ways to connect work, one after the other', async () => {
    // In the document they form one script, which declares `ws` twice.
    const ways = filledIn(spec.block('Connect to Channel', 'javascript'), server.port, token).split(
      '// Or with',
    );
    expect(ways).toHaveLength(2);
    for (const [index, way] of ways.entries()) {
      const socket = script().run<WebSocket>(`${index === 0 ? way : `//${way}`}; ws`);
      const [data] = await once(socket, 'message');
      expect(JSON.parse(String(data))).toMatchObject({
        type: 'system',
        event: 'connected',
        payload: { channel: 'chat-room-1', user_id: 'user123' },
      });
      socket.close();
      await once(socket, 'close');
    }
  });

  test('section 2: a documented outgoing message arrives as the documented incoming message', async () => {
    const [outgoing, incoming] = spec
      .block('WebSocket Message Format', 'javascript')
      .split('\n\n')
      .map((part) => JSON.parse(part.replace(/^\/\/.*\n/, '')) as { payload: unknown });
    const sender = await join(server, 'format', 'user123');
    const receiver = await join(server, 'format', 'user456');
    sender.send(outgoing);
    const message = await receiver.next('message', 'chat_message');
    expect(message.payload).toEqual(outgoing?.payload);
    expect(departures({ ...incoming, payload: outgoing?.payload }, message, ['offset'])).toEqual([]);
    await Promise.all([sender.close(), receiver.close()]);
  });

  test('a client can connect to the URL of the section on testing', async () => {
    const line = spec
      .block('WebSocket Connection Testing', 'bash')
      .split('\n')
      .find((candidate) => candidate.startsWith('ws://'));
    const socket = new WebSocket(filledIn(line ?? '', server.port, token));
    const [data] = await once(socket, 'message');
    expect(String(data)).toContain('"channel":"test-channel"');
    socket.close();
  });

  test('a client whose token is refused stops retrying', async () => {
    const tries: number[] = [];
    class CountingWebSocket extends WebSocket {
      constructor(url: string) {
        super(url);
        tries.push(tries.length);
      }
    }
    const forged = `${token}x`;
    const world = script({ WebSocket: CountingWebSocket }, (asked) => asked / 200);
    const client = world.run<SpecClient>(
      `${clientClass(server, forged)}; new RealtimeClient('chat-room-1', '${forged}')`,
    );
    client.connect();
    await eventually(() => expect(world.errors).toContain('Max reconnection attempts reached'));
    // Three times the socket opens, which the client takes for success; then follow its five attempts.
    expect(tries).toHaveLength(3 + 5);
    expect(world.logged.filter((line) => line.startsWith('Connected to channel:'))).toHaveLength(3);
  });

  test('the connection monitor counts, pings and reports', async () => {
    const world = script({}, (asked) => (asked === 30_000 ? 50 : asked));
    const [client, monitor] = world.run<[SpecClient, SpecMonitor]>(`
      ${clientClass()}
      ${spec.block('Connection Metrics', 'javascript')}
      const client = new RealtimeClient('monitored', '${token}');
      [client, new ConnectionMonitor(client)];
    `);
    client.connect();
    await eventually(() => expect(world.logged).toContain('Successfully connected to channel'));
    const pongs: string[] = [];
    client.ws.on('message', (data) => {
      monitor.onMessageReceived();
      const text = textOf(data);
      if (text.includes('"type":"pong"')) pongs.push(text);
    });
    monitor.startMonitoring();
    client.sendMessage('chat_message', { message: 'counted' });
    monitor.onMessageSent();
    await eventually(() => expect(pongs.length).toBeGreaterThan(2));
    clearInterval(monitor.pingInterval);
    // The document's class calls a method that it does not define.
    expect(() => monitor.getMetrics()).toThrow('calculateAverageLatency is not a function');
    Object.assign(monitor, { calculateAverageLatency: () => 1 });
    const metrics = monitor.getMetrics();
    expect(Object.keys(metrics).join(' ')).toBe(
      'connectTime messagesSent messagesReceived reconnectCount lastPing uptime avgLatency',
    );
    expect(metrics.messagesSent).toBe(1);
    expect(metrics.messagesReceived).toBeGreaterThan(2);
    expect(metrics.lastPing).toBeGreaterThanOrEqual(metrics.connectTime ?? Number.POSITIVE_INFINITY);
    expect(world.logged.filter((line) => line.startsWith('Unknown'))).toEqual([]);
    client.ws.removeAllListeners('close');
    client.disconnect();
  });

  test('the error handler of the document handles the errors of the server', async () => {
    const calls: string[] = [];
    const waits: number[] = [];
    const world = script({}, (asked) => {
      waits.push(asked);
      return 0;
    });
    const client = world.run<{ handleError(error: AnyAnswer): void }>(
      `${spec.block('Client Error Handling', 'javascript')}; new RealtimeClient()`,
    );
    await new Promise<void>((resolve) => {
      Object.assign(client, {
        refreshTokenAndReconnect: () => calls.push('refresh'),
        handleChannelNotFound: () => calls.push('not found'),
        connect: () => resolve(),
      });
      void (async () => {
        const path = '/realtime/channels/nowhere';
        client.handleError((await server.call('GET', path, { token: `${token}x` })).body);
        client.handleError((await server.call('GET', path, { token })).body);
        client.handleError((await server.call('PUT', path, { token })).body);
        client.handleError(await tooFast());
      })();
    });
    expect(calls).toEqual(['refresh', 'not found']);
    expect(world.errors).toHaveLength(1);
    expect(world.errors[0]).toContain('METHOD_NOT_ALLOWED');
    expect(waits).toEqual([1_000]);
  });

  /** Returns the answer to the first message that exceeds a channel's rate limit. */
  async function tooFast(): Promise<AnyAnswer> {
    const admin = await server.token('admin', 'admin');
    const body = { name: 'slow', permissions: { rate_limit: 1 } };
    await server.call('POST', '/realtime/channels', { token: admin, body });
    const publish = () =>
      server.call('POST', '/realtime/channels/slow/broadcast', { token, body: { event: 'x' } });
    let answer = await publish();
    while (answer.status === 200) answer = await publish();
    return answer.body;
  }

  test('in the load test every connection opens and receives the messages of all others', async () => {
    const received: number[] = [];
    const problems: string[] = [];
    let closed = 0;
    class CountingWebSocket extends WebSocket {
      constructor(url: string) {
        super(url);
        const index = received.push(0) - 1;
        this.on('message', (data) => {
          const text = textOf(data);
          if (text.includes('"event":"load_test"')) received[index] = (received[index] ?? 0) + 1;
          if (text.includes('"event":"error"')) problems.push(text);
        });
        this.on('error', (error) => problems.push(error.message));
        this.on('close', () => closed++);
      }
    }
    const require = (name: string) => (name === 'ws' ? CountingWebSocket : undefined);
    // The minute is shortened to five seconds; the endless intervals are stopped with the script.
    const world = script({ require }, (asked) => (asked === 60_000 ? 5_000 : asked));
    world.run(filledIn(spec.block('Load Testing', 'javascript'), server.port, await server.token('load')));
    await eventually(() => expect(world.logged).toContain('Load test completed'), 15_000);
    await eventually(() => expect(closed).toBe(100));
    expect(new Set(world.logged.filter((line) => line.endsWith('opened'))).size).toBe(100);
    expect(problems).toEqual([]);
    // At least four rounds fit into five seconds; fewer mean that messages were lost or a second late.
    expect(Math.min(...received)).toBeGreaterThanOrEqual(300);
  }, 30_000);

  test('the variables of the section on configuration are valid settings', () => {
    const env = Object.fromEntries(
      spec
        .block('Environment Variables', 'bash')
        .split('\n')
        .filter((line) => line.includes('='))
        .map((line) => line.split('=', 2) as [string, string]),
    );
    const { settings } = loadSettings({ flags: {}, env, envFile: {} });
    expect(settings).toMatchObject({ maxChannels: 1000, pingInterval: 30_000, cleanupInterval: 300_000 });
  });

  test('the test script of the document passes', async () => {
    const lines = spec.block('Integration Testing', 'bash', './test_realtime_api.sh');
    const streaming = await startRowChangeServer();
    try {
      await run(streaming, 'CREATE TABLE test_table (id int PRIMARY KEY)');
      const env = {
        ...process.env,
        REALTIME_URL: streaming.url,
        ADMIN_TOKEN: await streaming.token('admin', 'admin'),
        USER_TOKEN: await streaming.token('user'),
      };
      const { stdout } = await promisify(execFile)('bash', ['-ec', lines], { cwd: ROOT, env });
      expect(stdout).toMatch(/\d+ passed, 0 failed/);
    } finally {
      await streaming.stop();
    }
  });
});

/** Returns the text of a message, which `ws` delivers as a buffer. */
function textOf(data: RawData): string {
  return (data as Buffer).toString();
}

/** Waits for the next event of a socket and returns its arguments; rejects on an error. */
function once(socket: WebSocket, event: 'message' | 'close'): Promise<unknown[]> {
  return new Promise((resolve, reject) => {
    socket.once(event, (...values: unknown[]) => resolve(values));
    socket.once('error', reject);
  });
}
