import { afterEach, beforeEach, expect, test } from 'vitest';
import { ADA, BOB, run, subscribe } from '../support/row-changes.js';
import { join, type TestClient } from '../support/test-client.js';
import { startRowChangeServer, type TestServer } from '../support/test-server.js';

let server: TestServer;
beforeEach(async () => {
  server = await startRowChangeServer();
  await run(
    server,
    `CREATE TABLE notes (id int PRIMARY KEY, owner uuid, rank int, body text); ALTER TABLE notes ENABLE ROW LEVEL SECURITY;
     CREATE POLICY own ON notes USING (owner = current_setting('app.current_user_id')::uuid AND 1 / rank >= 0)`,
  );
});
afterEach(() => server.stop());

async function report(id: string, role = 'admin') {
  const { status, body } = await server.call('GET', `/realtime/subscriptions/${id}`, {
    token: await server.token('root', role),
  });
  return { status, body: body as unknown as Record<string, unknown> & { counts: Record<string, unknown> } };
}

/** Returns the counts that are not zero. */
async function counts(id: string): Promise<object> {
  const { since, ...numbers } = (await report(id)).body.counts;
  expect(Date.parse(String(since))).toBeGreaterThan(0);
  return Object.fromEntries(Object.entries(numbers).filter(([, count]) => count !== 0));
}

/** Runs statements and waits until their changes have arrived. */
async function change(client: TestClient, statements: string): Promise<void> {
  await run(server, `${statements}; SELECT realtime.send('lobby', 'end', '{}')`);
  await client.next('message', 'end');
}

const insert = (id: number, owner: string, rank = 1) =>
  `INSERT INTO notes VALUES (${id}, '${owner}', ${rank}, 'x')`;

test('each change of a subscription is counted once, by its outcome', async () => {
  const all = await subscribe(server, 'lobby', { table: 'notes' });
  const some = await subscribe(server, 'lobby', { table: 'notes', condition: 'id > 10', events: ['INSERT'] });
  const empty = await subscribe(server, 'nobody', { table: 'notes' });
  const odd = await subscribe(server, 'lobby', { table: 'notes', condition: '10 / (id - 3) > 0' });
  const client = await join(server, 'lobby', ADA);
  await change(client, `${insert(1, ADA)}; ${insert(2, BOB)}; ${insert(3, ADA)}; ${insert(11, BOB)}`);
  expect(await counts(all)).toEqual({ delivered: 2, policy: 2 });
  expect(await counts(some)).toEqual({ condition: 3, policy: 1 });
  expect(await counts(empty)).toEqual({ unheard: 4 });
  // PostgreSQL evaluates this condition, and only on rows that somebody sees.
  expect(await counts(odd)).toEqual({ condition: 1, error: 1, policy: 2 });
  await change(
    client,
    `UPDATE notes SET body = 'y' WHERE id > 10; ${insert(12, ADA, 0)}; ${insert(13, ADA)}`,
  );
  expect(await counts(all)).toEqual({ delivered: 3, policy: 3, error: 1 });
  expect(await counts(some)).toEqual({ condition: 3, policy: 1, error: 1, delivered: 1 });
  await change(client, `REVOKE SELECT ON notes FROM realtime_subscriber; ${insert(14, ADA)}`);
  expect(await counts(all)).toEqual({ delivered: 3, policy: 3, error: 1, privilege: 1 });
  expect(await counts(some)).toEqual({ condition: 3, policy: 1, error: 1, delivered: 1, privilege: 1 });
  expect(await counts(empty)).toEqual({ unheard: 8 });
});

test('changes are counted as privilege when a condition reads a column that nobody may read any more', async () => {
  await run(server, 'ALTER POLICY own ON notes USING (true)');
  const id = await subscribe(server, 'lobby', { table: 'notes', condition: 'rank = 1' });
  const client = await join(server, 'lobby', ADA);
  await change(client, insert(1, ADA));
  await change(
    client,
    `REVOKE SELECT ON notes FROM realtime_subscriber; GRANT SELECT (id) ON notes TO realtime_subscriber; ${insert(2, ADA)}`,
  );
  expect(await counts(id)).toEqual({ delivered: 1, privilege: 1 });
});

test('a personal subscription is reported with its counts and its connection', async () => {
  await subscribe(server, 'other', { table: 'notes' });
  const client = await join(server, 'lobby', ADA);
  client.send({
    type: 'subscribe',
    event: 'database_changes',
    payload: { table: 'notes', snapshot: true, condition: 'rank = 1' },
    ref: 1,
  });
  const id = (await client.next('reply', 'ok')).payload.subscription_id ?? '';
  await change(client, `${insert(1, ADA)}; ${insert(2, BOB)}; ${insert(3, ADA, 2)}`);
  expect(await counts(id)).toEqual({ delivered: 1, policy: 1, condition: 1 });
  const { connection_id } = client.all('system', 'connected')[0]?.payload ?? {};
  expect((await report(id)).body).toMatchObject({ id, connection_id, user_id: ADA, message_count: 1 });
  const { body } = await server.call('POST', '/realtime/explain', {
    token: await server.token('root', 'admin'),
    body: { subscription_id: id, user: { sub: ADA }, key: { id: 3 } },
  });
  expect(body).toMatchObject({ visible: false, listening: 1, condition: { text: 'rank = 1', holds: false } });
  await client.close();
});

test('the answer contains the entry of the list and the counts, for server admins only', async () => {
  const id = await subscribe(server, 'lobby', { table: 'notes' });
  const { body } = await report(id);
  expect(body).toMatchObject({
    id,
    channel_name: 'lobby',
    filter: { table: 'notes' },
    message_count: 0,
    active: true,
  });
  expect(body).not.toHaveProperty('connection_id');
  expect((await report(id, 'user')).status).toBe(403);
  expect((await report('sub_0_none')).body).toMatchObject({
    code: 'SUBSCRIPTION_NOT_FOUND',
    error: 'subscription sub_0_none not found',
  });
});

test('whoever is no server admin sees what the own connections have received, whatever others have', async () => {
  const [root, olga] = [await server.token('root', 'admin'), await server.token(BOB, 'owner')];
  await run(server, 'GRANT SELECT ON notes TO realtime_subscriber');
  await subscribe(server, 'any', { table: 'notes' });
  const lists = { name: 'lobby', permissions: { admin: ['owner'] } };
  await server.call('POST', '/realtime/channels', { token: root, body: lists });
  const answer = await server.call('POST', '/realtime/channels/lobby/subscribe', {
    token: olga,
    body: { table: 'notes', condition: '(rank >> 1) & 1 = 1' },
  });
  const id = answer.body.subscription_id;
  const seenBy = async (token: string) => {
    const { body } = await server.call('GET', '/realtime/subscriptions', { token });
    const shown = body.subscriptions.find((subscription) => subscription.id === id) as unknown as Record<
      string,
      unknown
    >;
    return [shown.message_count, typeof shown.last_activity];
  };
  const ada = await join(server, 'lobby', ADA);
  await change(ada, `${insert(1, ADA, 2)}; ${insert(2, ADA, 3)}`);
  expect(await seenBy(olga)).toEqual([0, 'object']);
  expect(await seenBy(root)).toEqual([2, 'string']);
  const own = await join(server, 'lobby', BOB);
  await change(own, `${insert(3, ADA, 2)}; ${insert(4, BOB, 2)}; ${insert(5, BOB, 1)}`);
  expect(await seenBy(olga)).toEqual([1, 'string']);
  expect(await seenBy(root)).toEqual([4, 'string']);
  await own.close();
  await ada.next('presence', 'leave');
  expect(await seenBy(olga)).toEqual([0, 'object']);
  await ada.close();
});
