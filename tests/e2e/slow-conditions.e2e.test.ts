import { afterEach, beforeEach, expect, test } from 'vitest';
import { ADA, BOB, run, subscribe } from '../support/row-changes.js';
import { join, type TestClient } from '../support/test-client.js';
import { startRowChangeServer, type TestServer } from '../support/test-server.js';

/** PostgreSQL takes 300 ms for each row. */
const SLOW = 'bit_length(body) = 0';
/** PostgreSQL evaluates this one too. */
const FAST = 'id % 1 = 0';

let server: TestServer;
beforeEach(async () => {
  server = await startRowChangeServer();
  await run(
    server,
    `CREATE OR REPLACE FUNCTION pg_catalog.bit_length(text) RETURNS int LANGUAGE plpgsql IMMUTABLE STRICT AS
       $$ BEGIN PERFORM pg_sleep(0.3); RETURN 1; END $$;
     CREATE TABLE notes (id int PRIMARY KEY, body text)`,
  );
});
afterEach(() => server.stop());

async function subscribePersonally(member: TestClient, condition: string): Promise<string> {
  const ref = `ask-${Math.random()}`;
  const payload = { table: 'notes', condition };
  member.send({ type: 'subscribe', event: 'database_changes', payload, ref });
  return (await member.next('reply', 'ok', (reply) => reply.ref === ref)).payload.subscription_id ?? '';
}

/** Inserts rows, one after the other was delivered, until the member is told that a subscription has ended. */
async function insertUntilEnded(member: TestClient) {
  let id = 0;
  const arrived = () => member.next('database_change');
  while (member.all('system', 'error').length === 0 && id < 20) {
    id += 1;
    await run(server, `INSERT INTO notes VALUES (${id}, 'text')`);
    await arrived();
  }
  const [error] = member.all('system', 'error');
  await member.next('system', 'gap').catch(() => undefined);
  const [gap] = member.all('system', 'gap');
  return [error?.payload, gap?.payload];
}

const ended = (id: string) => [
  {
    code: 'CONDITION_TOO_SLOW',
    error: 'the condition takes too much time',
    subscription_id: id,
    cause: 'condition',
  },
  { scope: 'changes', reason: 'the subscription has ended', subscription_ids: [id] },
];

test('a personal subscription with a slow condition ends, and the others of the user go on', async () => {
  await subscribe(server, 'lobby', { table: 'notes', condition: 'id < 0' });
  const [ada, bob] = [await join(server, 'lobby', ADA), await join(server, 'lobby', BOB)];
  const slow = await subscribePersonally(ada, SLOW);
  const fast = await subscribePersonally(ada, FAST);
  const other = await subscribePersonally(bob, FAST);
  expect(await insertUntilEnded(ada)).toEqual(ended(slow));
  await run(server, `INSERT INTO notes VALUES (100, 'text')`);
  const isLast = ({ payload }: { payload: TestClient['received'][0]['payload'] }) =>
    payload.change.new_record?.id === 100;
  expect((await ada.next('database_change', undefined, isLast)).payload.subscription_ids).toEqual([fast]);
  expect((await bob.next('database_change', undefined, isLast)).payload.subscription_ids).toEqual([other]);
  expect(bob.all('system', 'error')).toEqual([]);
});

test('a channel’s subscription with a slow condition ends for all members of the channel', async () => {
  const slow = await subscribe(server, 'lobby', { table: 'notes', condition: SLOW });
  await subscribe(server, 'lobby', { table: 'notes' });
  const [ada, bob] = [await join(server, 'lobby', ADA), await join(server, 'lobby', BOB)];
  expect(await insertUntilEnded(ada)).toEqual(ended(slow));
  await bob.next('system', 'gap');
  expect(
    bob
      .all('system')
      .map(({ payload }) => payload)
      .slice(1),
  ).toEqual(ended(slow));
  const token = await server.token('root', 'admin');
  expect((await server.call('GET', `/realtime/subscriptions/${slow}`, { token })).status).toBe(404);
});
