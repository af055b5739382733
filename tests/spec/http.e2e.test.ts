import { execFile } from 'node:child_process';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join as joinPath } from 'node:path';
import { promisify } from 'node:util';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { filledIn, hasSpecDocument, SpecDocument, specTitle } from '../support/spec-document.js';
import { departures } from '../support/spec-shape.js';
import { join } from '../support/test-client.js';
import { type Answer, startTestServer, type TestServer } from '../support/test-server.js';

const ROOM = '/realtime/channels/chat-room-1';
const run = promisify(execFile);

describe.skipIf(!hasSpecDocument)(specTitle('HTTP examples of the spec'), () => {
  let spec: SpecDocument;
  let server: TestServer;
  let admin: string;
  let user: string;

  beforeAll(async () => {
    spec = SpecDocument.read();
    server = await startTestServer();
    admin = await server.token('admin', 'admin');
    user = await server.token('user123');
  });

  afterAll(() => server.stop());

  /** Sends the request of a section, by default as an admin. */
  function send(heading: string, token = admin): Promise<Answer> {
    const { method, path, body } = spec.request(heading);
    return server.call(method, path, { token, ...(body === undefined ? {} : { body }) });
  }

  function expectAsDocumented(heading: string, answer: Answer, extra: readonly string[] = []): void {
    expect(answer.status, answer.text).toBeLessThan(300);
    expect(departures(spec.answer(heading), answer.body, extra)).toEqual([]);
  }

  /** Connects the three users of the document's answers: two listed ones, and one without presence. */
  async function fill(channel: string): Promise<void> {
    const one = await join(server, channel, 'user123');
    const two = await join(server, channel, 'user456');
    const three = await join(server, channel, 'user789', { query: 'presence=none' });
    const { user123, user456 } = spec.answer('Get Channel Presence').presence as Record<string, object>;
    one.send({ type: 'presence', event: 'update', payload: { state: user123 } });
    two.send({ type: 'presence', event: 'update', payload: { state: user456 } });
    await Promise.all([one.settle(), two.settle(), three.settle()]);
  }

  test('section 1: creating a channel returns the documented answer', async () => {
    const answer = await send('Create Channel');
    expect(answer.status).toBe(201);
    expect(answer.body).toEqual(spec.answer('Create Channel'));
  });

  test('section 1: the answer for a channel contains its members and their presence', async () => {
    await fill('chat-room-1');
    await fill('notifications');
    const answer = await send('Get Channel Information', user);
    expect(answer.body.subscriber_count).toBe(3);
    // The document shows a role for user123 and custom data for user456 under "Get Channel Presence", but not
    // here.
    expectAsDocumented('Get Channel Information', answer, ['role', 'custom_data']);
  });

  test('section 1: channels are listed', async () => {
    const answer = await send('List All Channels', user);
    expectAsDocumented('List All Channels', answer);
    expect(answer.body.channels.map(({ name }) => name)).toEqual(['chat-room-1', 'notifications']);
  });

  test('section 3: a message is broadcast', async () => {
    const listener = await join(server, 'chat-room-1', 'listener', { query: 'presence=none' });
    const answer = await send('Broadcast Message to Channel', user);
    expectAsDocumented('Broadcast Message to Channel', answer);
    const message = await listener.next('message', 'announcement');
    expect(message.id).toBe(answer.body.id);
    expect(message.payload).toEqual(
      (spec.request('Broadcast Message to Channel').body as { payload: object }).payload,
    );
    await listener.close();
  });

  test('section 4: the presence of a channel is returned', async () => {
    const answer = await send('Get Channel Presence', user);
    expectAsDocumented('Get Channel Presence', answer);
    expect(answer.body.connected_users).toEqual(spec.answer('Get Channel Presence').connected_users);
    expect(answer.body.total_users).toBe(3);
  });

  test('section 7: the statistics of a channel are returned', async () => {
    const answer = await send('Get Channel Statistics', user);
    expectAsDocumented('Get Channel Statistics', answer);
    expect(answer.body.users).toEqual(spec.answer('Get Channel Statistics').users);
    expect(answer.body.presence_count).toBe(2);
  });

  test('section 7: the statistics of the system are returned', async () => {
    expectAsDocumented('Get System Statistics', await send('Get System Statistics'), ['connections']);
  });

  test('section 4: presence is updated', async () => {
    expectAsDocumented('Update User Presence', await send('Update User Presence', user));
    const { state } = spec.request('Update User Presence').body as { state: object };
    const shown = await server.call('GET', `${ROOM}/presence`, { token: user });
    expect(shown.body.presence.user123).toMatchObject(state);
  });

  test('errors of permissions and tokens are as documented', async () => {
    const asDocumented = (heading: string, answer: Answer, added: object = {}) =>
      expect(answer.body).toEqual({ ...spec.answer(heading), ...added });
    await server.call('POST', '/realtime/channels', {
      token: admin,
      body: { name: 'staff', permissions: { write: ['admin'] } },
    });
    asDocumented(
      'Permission Errors',
      await server.call('POST', '/realtime/channels/staff/broadcast', { token: user, body: { event: 'x' } }),
    );
    asDocumented('WebSocket Connection Errors', await server.call('GET', ROOM, { token: `${user}x` }), {
      reason: 'signature',
    });
  });

  test('section 1: a deleted channel is reported as not found, as documented', async () => {
    expectAsDocumented('Delete Channel', await send('Delete Channel'));
    const gone = await send('Get Channel Information', user);
    expect(gone.status).toBe(404);
    expect(gone.body).toEqual({
      ...spec.answer('Channel Errors'),
      details: expect.stringContaining('create it with POST /realtime/channels'),
    });
  });

  test('the rate limit error is as documented', async () => {
    const body = { name: 'slow', permissions: { rate_limit: 1 } };
    await server.call('POST', '/realtime/channels', { token: admin, body });
    const send = () =>
      server.call('POST', '/realtime/channels/slow/broadcast', { token: user, body: { event: 'x' } });
    let answer = await send();
    while (answer.status === 200) answer = await send();
    expect(answer.status).toBe(429);
    expect(departures(spec.answer('Rate Limit Errors'), answer.body)).toEqual([]);
  });

  describe('curl commands', () => {
    let home: string;

    beforeAll(async () => {
      home = await mkdtemp(joinPath(tmpdir(), 'goforward-curl-'));
      // The commands stay unchanged; .curlrc makes curl print the status.
      await writeFile(joinPath(home, '.curlrc'), 'silent\nshow-error\nwrite-out = "\\n%{http_code}"\n');
    });

    afterAll(() => rm(home, { recursive: true, force: true }));

    async function curl(heading: string, containing: string): Promise<{ status: number; body: unknown }> {
      const command = spec
        .block(heading, 'bash', 'curl')
        .split('\n\n')
        .find((part) => part.includes(containing));
      if (command === undefined) throw new Error(`no curl line under "${heading}" with ${containing}`);
      const { stdout } = await run('bash', ['-c', filledIn(command, server.port, admin)], {
        env: { ...process.env, CURL_HOME: home },
      });
      const end = stdout.lastIndexOf('\n');
      return { status: Number(stdout.slice(end + 1)), body: JSON.parse(stdout.slice(0, end)) as unknown };
    }

    test('return the statistics', async () => {
      const { status, body } = await curl('System Metrics', '/realtime/stats');
      expect(status).toBe(200);
      expect(body).toHaveProperty('connections.active_connections');
      expect(body).toHaveProperty('connections.connections_per_user');
      expect(body).toHaveProperty('connections.channel_connections');
      expect(body).toHaveProperty('channels');
    });

    test('create a channel and broadcast a message to it', async () => {
      const made = await curl('Integration Testing', '"max_subscribers": 100');
      expect(made).toMatchObject({
        status: 201,
        body: { name: 'test-channel', config: { max_subscribers: 100 } },
      });
      const listener = await join(server, 'test-channel', 'listener');
      expect(await curl('Integration Testing', '/broadcast')).toMatchObject({ status: 200 });
      expect((await listener.next('message', 'test')).payload).toEqual({ data: 'test' });
    });
  });
});
