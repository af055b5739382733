import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { ADA, BOB, run, subscribe } from '../support/row-changes.js';
import { join, type TestClient } from '../support/test-client.js';
import { startRowChangeServer, type TestServer } from '../support/test-server.js';

/** One condition for each bit of the salary: it raises an error on a row that has the bit. */
const BITS = Array.from({ length: 16 }, (_, bit) => `1 / (1 - ((salary >> ${bit}) & 1)) IS NOT NULL`);
const SALARY = 0b1010_0101_1100_0011;

const DIRECTOR = '33333333-3333-4333-8333-333333333333';

let server: TestServer;
beforeEach(async () => {
  server = await startRowChangeServer();
  await run(
    server,
    `CREATE TABLE staff (id int PRIMARY KEY, owner uuid, salary int); ALTER TABLE staff ENABLE ROW LEVEL SECURITY;
     CREATE POLICY own ON staff USING (current_setting('app.current_user_id') IN (owner::text, '${DIRECTOR}'))`,
  );
});
afterEach(() => server.stop());

async function request(member: TestClient, payload: object) {
  const ref = `ask-${Math.random()}`;
  member.send({ type: 'subscribe', event: 'database_changes', payload, ref });
  return member.next('reply', undefined, (message) => message.ref === ref);
}

/** Runs statements; returns the errors and changes that each member received from them. */
async function received(members: readonly TestClient[], statements: string): Promise<string[][]> {
  const before = members.map((member) => member.received.length);
  await run(server, `${statements}; SELECT realtime.send('lobby', 'end', '{}')`);
  return Promise.all(
    members.map(async (member, n) => {
      await member.next('message', 'end');
      return member.received.slice(before[n]).flatMap(({ type, event, payload }) => {
        if (type === 'system') return [`${event} ${payload.code}`];
        return type === 'database_change' ? [`${event} ${String(payload.change.new_record?.id)}`] : [];
      });
    }),
  );
}

const insert = (id: number, owner: string, salary: number) =>
  `INSERT INTO staff VALUES (${id}, '${owner}', ${salary})`;

/** The codes of errors, and the ids of changed rows, without repeats. */
const kinds = (lines: readonly string[] | undefined) => [...new Set(lines)];

describe('nothing about a hidden row is received', () => {
  test('through the errors of conditions in personal subscriptions', async () => {
    const [ada, bob] = [await join(server, 'lobby', ADA), await join(server, 'lobby', BOB)];
    await subscribe(server, 'lobby', { table: 'staff', condition: 'id = 0' });
    for (const condition of BITS)
      for (const member of [ada, bob])
        expect((await request(member, { table: 'staff', condition })).event).toBe('ok');
    const [hers, his] = await received([ada, bob], insert(1, BOB, SALARY));
    expect(hers).toEqual([]);
    // Bob sees the row: his conditions raise an error for each bit that is set.
    expect(his?.filter((line) => line === 'error POLICY_ERROR')).toHaveLength(8);
    expect(kinds(his)).toEqual(['error POLICY_ERROR', 'INSERT.staff 1']);
  });

  test('through the errors of a channel’s condition, also on one version of a row', async () => {
    await subscribe(server, 'lobby', { table: 'staff', condition: '1 / (salary - 9000) < 5' });
    const members = await Promise.all([ADA, BOB, DIRECTOR].map((user) => join(server, 'lobby', user)));
    expect(await received(members, insert(1, BOB, 9000))).toEqual([
      [],
      ['error POLICY_ERROR'],
      ['error POLICY_ERROR'],
    ]);
    // Ada sees the new version alone, on which the condition raises no error.
    const [ada, director] = [await join(server, 'lobby', ADA), await join(server, 'lobby', DIRECTOR)];
    const moved = `UPDATE staff SET owner = '${ADA}', salary = 1`;
    expect(await received([ada, director], moved)).toEqual([
      ['UPDATE.staff 1'],
      ['error POLICY_ERROR', 'UPDATE.staff 1'],
    ]);
    expect(ada.all('database_change')[0]?.payload.change).toMatchObject({
      visibility: 'gained',
      old_record: null,
    });
  });

  test('or about a column that the role may not read', async () => {
    await run(server, `ALTER POLICY own ON staff USING (true)`);
    await subscribe(server, 'lobby', { table: 'staff', condition: '1 / (salary - 9000) < 5' });
    const ada = await join(server, 'lobby', ADA);
    expect((await request(ada, { table: 'staff', condition: '1 / (salary - 9000) < 5' })).event).toBe('ok');
    await run(
      server,
      'REVOKE SELECT ON staff FROM realtime_subscriber; GRANT SELECT (id) ON staff TO realtime_subscriber',
    );
    expect(await received([ada], `${insert(1, BOB, 9000)}; ${insert(2, BOB, 9001)}`)).toEqual([[]]);
    const refused = await request(ada, {
      table: 'staff',
      snapshot: true,
      condition: '1 / (salary - 9000) < 5',
    });
    expect(refused.payload.code).toBe('DB_SUBSCRIPTION_FAILED');
  });

  test('through a snapshot, where PostgreSQL applies the policies before the condition', async () => {
    await run(
      server,
      `${insert(1, ADA, 1)}; INSERT INTO staff SELECT n, '${BOB}', 9000 FROM generate_series(2, 500) n;
       CREATE INDEX ON staff (salary); CREATE INDEX ON staff ((1 / (salary + 1))); ANALYZE staff`,
    );
    await subscribe(server, 'lobby', { table: 'staff', condition: 'id = 0' });
    const [ada, bob] = [await join(server, 'lobby', ADA), await join(server, 'lobby', BOB)];
    for (const condition of [
      '1 / (salary - 9000) = 0',
      'salary > 0 AND 1 / (salary - 9000) = 0',
      'salary = 9000 OR 1 / (salary - 9000) = 0',
    ]) {
      const snapshot = { table: 'staff', snapshot: true, condition };
      expect((await request(ada, snapshot)).event).toBe('ok');
      expect((await ada.next('system', 'snapshot')).payload.rows).toEqual([{ id: 1, owner: ADA, salary: 1 }]);
    }
    const { payload } = await request(bob, {
      table: 'staff',
      snapshot: true,
      condition: '1 / (salary - 9000) = 0',
    });
    expect([payload.code, payload.details]).toEqual([
      'DB_SUBSCRIPTION_FAILED',
      'The rows cannot be read: a policy or the condition raised an error or took too long',
    ]);
  });
});
