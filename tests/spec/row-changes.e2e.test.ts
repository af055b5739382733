import { runInNewContext } from 'node:vm';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { ADA, run } from '../support/row-changes.js';
import { filledIn, hasSpecDocument, SpecDocument, specTitle } from '../support/spec-document.js';
import { departures } from '../support/spec-shape.js';
import { join } from '../support/test-client.js';
import { type Answer, startRowChangeServer, type TestServer } from '../support/test-server.js';

describe.skipIf(!hasSpecDocument)(specTitle('Row changes of the spec'), () => {
  let spec: SpecDocument;
  let server: TestServer;
  let admin: string;

  beforeAll(async () => {
    spec = SpecDocument.read();
    server = await startRowChangeServer();
    admin = await server.token('admin', 'admin');
    await run(
      server,
      `CREATE TABLE messages (id int PRIMARY KEY, content text, user_id uuid, created_at timestamptz DEFAULT now())`,
    );
    await server.call('POST', '/realtime/channels', { token: admin, body: { name: 'chat-room-1' } });
  });
  afterAll(() => server.stop());

  function send(heading: string): Promise<Answer> {
    const { method, path, body } = spec.request(heading);
    return server.call(method, path, { token: admin, body: body ?? (method === 'POST' ? {} : undefined) });
  }

  test('the policies of the section on row level security are created unchanged', async () => {
    await run(server, spec.block('🛡️ Row Level Security (RLS)', 'sql'));
  });

  test('section 6: a table is enabled for row changes', async () => {
    const answer = await send('Setup Table Trigger');
    expect(departures(spec.answer('Setup Table Trigger'), answer.body, ['warnings'])).toEqual([]);
  });

  test('section 5: a channel is subscribed to a table, and its members get the documented event', async () => {
    const answer = await send('Subscribe to Database Changes');
    expect(
      departures(spec.answer('Subscribe to Database Changes'), answer.body, ['subscription_id', 'warnings']),
    ).toEqual([]);
    const ada = await join(server, 'chat-room-1', ADA);
    await run(server, `INSERT INTO messages VALUES (123, 'New message content', '${ADA}')`);
    const message = await ada.next('database_change', 'INSERT.messages');
    const documented = JSON.parse(
      spec.block('Database Change Event Format', 'javascript').replaceAll(/^\s*\/\/.*$/gm, ''),
    ) as { payload: { change: object } };
    const shape = (value: object) => Object.keys(value);
    expect(shape(message)).toEqual(expect.arrayContaining(shape(documented)));
    expect(shape(message.payload.change)).toEqual(expect.arrayContaining(shape(documented.payload.change)));
    expect(message.payload.change.new_record).toMatchObject({ id: 123, content: 'New message content' });
  });

  test('the request of the section on filtering creates a subscription', async () => {
    const source = filledIn(spec.block('Database Change Filtering', 'javascript'), server.port, admin);
    await server.call('POST', '/realtime/channels', { token: admin, body: { name: 'chat-room' } });
    const answers: Response[] = [];
    const calling = async (path: string, options: RequestInit) => {
      answers.push(await fetch(`${server.url}${path}`, options));
    };
    await (runInNewContext(`(async () => {${source}})()`, { fetch: calling, token: admin }) as Promise<void>);
    expect(answers.map(({ status }) => status)).toEqual([200]);
  });

  test('section 7: subscriptions are listed', async () => {
    const answer = await send('Get Database Subscriptions');
    const [documented] = spec.answer('Get Database Subscriptions').subscriptions as object[];
    expect(answer.body.total).toBe(2);
    expect(Object.keys(answer.body.subscriptions[0] ?? {})).toEqual(
      expect.arrayContaining(Object.keys(documented ?? {})),
    );
  });

  test('subscribing to a missing table fails with the documented error', async () => {
    const { status, body } = await server.call('POST', '/realtime/channels/chat-room-1/subscribe', {
      token: admin,
      body: { table: 'nonexistent' },
    });
    expect([status, body]).toEqual([400, spec.answer('Database Errors')]);
  });

  test('the SQL on performance runs, each statement alone and with a partitioned parent table', async () => {
    const [index = '', partition = ''] = spec
      .block('Database Performance', 'sql')
      .split(';')
      .map((statement) => statement.trim());
    await run(server, index);
    await run(
      server,
      'ALTER TABLE messages RENAME TO plain; CREATE TABLE messages (LIKE plain) PARTITION BY RANGE (created_at)',
    );
    await run(server, partition);
    await run(server, 'DROP TABLE messages; ALTER TABLE plain RENAME TO messages');
  });

  test('the trigger function of the document works once its body is in $$ quotes', async () => {
    const text = spec
      .block('Setting Up Database Triggers', 'sql')
      .replace('AS $\n', 'AS $$$$\n')
      .replace('\n$ LANGUAGE', '\n$$$$ LANGUAGE');
    await run(server, text);
    await run(server, `INSERT INTO messages VALUES (124, 'with a trigger', '${ADA}')`);
  });

  test('section 6: a table is disabled', async () => {
    const answer = await send('Remove Table Trigger');
    expect(departures(spec.answer('Remove Table Trigger'), answer.body)).toEqual([]);
  });
});
