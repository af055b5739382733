import type { Page } from 'playwright-core';
import { afterAll, beforeAll, describe, expect, onTestFinished, test } from 'vitest';
import { TestBrowser } from '../support/browser.js';
import { eventually } from '../support/eventually.js';
import { filledIn, hasSpecDocument, SpecDocument, specTitle } from '../support/spec-document.js';
import { join } from '../support/test-client.js';
import { startTestServer, type TestServer } from '../support/test-server.js';

/**
 * The line of the example where the usage below the class starts to send, while the socket is still
 * connecting.
 */
const FIRST_SEND = '// Send a chat message';

interface Example {
  readonly page: Page;
  readonly logged: string[];
  readonly errors: string[];
  readonly run: (script: string) => Promise<void>;
}

describe.skipIf(!hasSpecDocument)(specTitle('client examples of the spec, in a browser'), () => {
  let spec: SpecDocument;
  let server: TestServer;
  let browser: TestBrowser;
  let token: string;

  beforeAll(async () => {
    spec = SpecDocument.read();
    [server, browser] = await Promise.all([startTestServer(), TestBrowser.open()]);
    token = await server.token('user123');
  });

  afterAll(async () => {
    await browser.close();
    await server.stop();
  });

  /** Opens an empty application page at the server's address, which the document's relative paths expect. */
  async function example(at: TestServer = server): Promise<Example> {
    const { page, context, errors } = await browser.newTab();
    onTestFinished(() => context.close());
    const url = `http://localhost:${at.port}/application`;
    await page.route(url, (route) => route.fulfill({ contentType: 'text/html', body: '<!doctype html>' }));
    const logged: string[] = [];
    page.on('console', (message) => logged.push(message.text()));
    await page.goto(url);
    const run = async (content: string) => {
      await page.addScriptTag({ content });
    };
    return { page, logged, errors, run };
  }

  /**
   * Returns the document's client and its usage in two parts: up to `connect()`, and what it sends
   * afterwards.
   */
  function clientParts(at: TestServer = server): readonly [connect: string, send: string] {
    const text = filledIn(spec.block('JavaScript Client', 'javascript'), at.port, token);
    const [connect, send] = text.split(FIRST_SEND);
    if (connect === undefined || send === undefined) throw new Error(`the client has no "${FIRST_SEND}"`);
    return [connect, `${FIRST_SEND}${send}`];
  }

  test('the client connects, updates its presence and chats', async () => {
    const observer = await join(server, 'chat-room-1', 'user456');
    const { logged, errors, run } = await example();
    const [connect, send] = clientParts();
    await run(connect);
    const online = await observer.next('presence', 'update');
    expect(online.payload).toMatchObject({ user_id: 'user123', state: { status: 'online' } });
    expect(online.payload.state).toHaveProperty('joined_at');
    await eventually(() => expect(logged).toContain('Successfully connected to channel'));
    expect(logged).toContain('Connected to channel: chat-room-1');

    await run(send);
    expect((await observer.next('message', 'chat_message')).payload).toEqual({
      message: 'Hello everyone!',
      user: 'John Doe',
    });
    expect((await observer.next('presence', 'update')).payload.state).toMatchObject({
      status: 'typing',
      message: 'is typing...',
    });
    observer.send({ type: 'message', event: 'chat_message', payload: { message: 'Hello back!' } });
    await eventually(() => expect(logged.some((line) => line.startsWith('New message:'))).toBe(true));
    expect(logged.some((line) => line.startsWith('Presence update:'))).toBe(true);
    expect(errors).toEqual([]);

    await run('client.disconnect()');
    expect((await observer.next('presence', 'leave')).payload.user_id).toBe('user123');
    await observer.close();
  });

  test('the client understands the answer to its ping', async () => {
    const { page, logged, run } = await example();
    await run(clientParts()[0]);
    await eventually(() => expect(logged).toContain('Successfully connected to channel'));
    const frames: string[] = [];
    await page.exposeFunction('seen', (frame: string) => frames.push(frame));
    await run('client.ws.addEventListener("message", ({ data }) => seen(data)); client.ping()');
    await eventually(() => expect(frames.some((frame) => frame.includes('"type":"pong"'))).toBe(true));
    expect(logged.filter((line) => line.startsWith('Unknown'))).toEqual([]);
  });

  test('the unchanged example sends before it is connected, and still connects', async () => {
    const { logged, errors, run } = await example();
    await run(clientParts().join(''));
    await eventually(() => expect(errors.join()).toContain('Still in CONNECTING state'));
    await eventually(() => expect(logged).toContain('Successfully connected to channel'));
  });

  test('the client gets the reason why its channel was closed', async () => {
    const admin = await server.token('admin', 'admin');
    const { logged, run } = await example();
    await run(clientParts()[0]);
    await eventually(() => expect(logged).toContain('Successfully connected to channel'));
    await server.call('DELETE', '/realtime/channels/chat-room-1', { token: admin });
    await eventually(() => expect(logged.join('\n')).toMatch(/Channel was closed: \S/));
    await server.call('POST', '/realtime/channels', { token: admin, body: { name: 'chat-room-1' } });
  });

  test('the client reconnects after a restart of the server', async () => {
    const first = await startTestServer();
    const { logged, run } = await example(first);
    await run(clientParts(first)[0]);
    const connected = () => logged.filter((line) => line === 'Successfully connected to channel').length;
    await eventually(() => expect(connected()).toBe(1));
    await first.stop();
    await eventually(() => expect(logged).toContain('Attempting to reconnect in 2000ms (attempt 1)'));
    const second = await startTestServer({ REALTIME_PORT: String(first.port) });
    try {
      await eventually(() => expect(connected()).toBe(2), 10_000);
    } finally {
      await second.stop();
    }
  });

  test('section 2: the first way to connect works in a browser', async () => {
    const observer = await join(server, 'chat-room-1', 'user456');
    const { errors, run } = await example();
    const [first = ''] = spec.block('Connect to Channel', 'javascript').split('// Or with');
    await run(filledIn(first, server.port, token));
    await observer.next('presence', 'join', ({ payload }) => payload.user_id === 'user123');
    expect(errors).toEqual([]);
    await observer.close();
  });

  test('the authentication examples connect and broadcast', async () => {
    const admin = await server.token('admin', 'admin');
    await server.call('POST', '/realtime/channels', { token: admin, body: { name: 'secure-channel' } });
    const observer = await join(server, 'secure-channel', 'user456');
    const { errors, run } = await example();
    await run(filledIn(spec.block('🔐 Authentication & Authorization', 'javascript'), server.port, token));
    expect((await observer.next('message', 'secure_message')).payload).toEqual({ message: 'This is secure' });
    await eventually(() =>
      expect(
        observer.received.some(({ event, payload }) => event === 'join' && payload.user_id === 'user123'),
      ).toBe(true),
    );
    expect(errors).toEqual([]);
  });
});
