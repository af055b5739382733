import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { ADA, BOB, run, subscribe } from '../support/row-changes.js';
import { join, type TestClient } from '../support/test-client.js';
import { startRowChangeServer, type TestServer } from '../support/test-server.js';

/**
 * Tests each rule of row visibility with compiled policies and with policies that PostgreSQL evaluates. The replica
 * identity of old rows (8) is tested in row-change-tables, memberships (10) in membership-policies.
 */
const TIERS = [
  ['INDEXED', 'owner = uid()'],
  ['COMPILED', 'owner IS NOT DISTINCT FROM uid()'],
  ['POSTGRES', 'coalesce(owner) = uid()'],
] as const;

describe.each(TIERS)('row level security, tier %s', (tier, own) => {
  let server: TestServer;
  let ada: TestClient;
  let bob: TestClient;
  beforeEach(async () => {
    server = await startRowChangeServer();
    await run(
      server,
      `CREATE TABLE notes (id int PRIMARY KEY, owner uuid, body text); ALTER TABLE notes ENABLE ROW LEVEL SECURITY;
       CREATE FUNCTION uid() RETURNS uuid LANGUAGE sql STABLE AS $$ SELECT (current_setting('request.jwt.claims', true)::jsonb ->> 'sub')::uuid $$;
       CREATE POLICY own ON notes USING (${own})`,
    );
    await subscribe(server, 'lobby', { table: 'notes' });
    [ada, bob] = [await join(server, 'lobby', ADA), await join(server, 'lobby', BOB)];
  });
  afterEach(() => server.stop());

  /**
   * Runs each statement as a transaction of its own. Returns what each of the two clients receives: event or
   * visibility, old record, new record.
   */
  async function changesFor(...statements: readonly string[]): Promise<unknown[][]> {
    const before = [ada, bob].map((client) => client.all('database_change').length);
    for (const statement of statements) await run(server, statement);
    await run(server, `SELECT realtime.send('lobby', 'end', '{}')`);
    const all: unknown[][] = [];
    for (const [n, client] of [ada, bob].entries()) {
      await client.next('message', 'end');
      const changes = client.all('database_change').slice(before[n]);
      all.push(
        changes.map(({ payload: { change } }) => [
          change.visibility ?? change.event,
          change.old_record?.body ?? (change.old_record === null ? null : change.old_record?.id),
          change.new_record === null ? null : change.new_record.body,
        ]),
      );
    }
    return all;
  }

  const insert = (id: number, owner: string | null, body = 'x') =>
    `INSERT INTO notes VALUES (${id}, ${owner === null ? 'NULL' : `'${owner}'`}, '${body}')`;

  test('1: policies are evaluated on the old and the new version of a change, not on the current row', async () => {
    const statements = [
      insert(1, ADA, 'a'),
      `UPDATE notes SET owner = '${BOB}', body = 'b'`,
      `UPDATE notes SET body = 'c'`,
      'DELETE FROM notes',
    ];
    // One message to PostgreSQL, so that everything has committed before the first change is evaluated.
    expect(await changesFor(statements.map((statement) => `BEGIN; ${statement}; COMMIT`).join(';'))).toEqual([
      [
        ['INSERT', null, 'a'],
        ['lost', 1, null],
      ],
      [
        ['gained', null, 'b'],
        ['UPDATE', 'b', 'c'],
        ['DELETE', 'c', null],
      ],
    ]);
  });

  test('2: a user who may see neither version receives nothing; a DELETE with only the key needs policies on the key alone', async () => {
    expect(
      await changesFor(insert(1, null), `UPDATE notes SET body = 'y'`, 'DELETE FROM notes', insert(2, ADA)),
    ).toEqual([[['INSERT', null, 'x']], []]);
    await run(server, 'ALTER TABLE notes REPLICA IDENTITY DEFAULT');
    expect(await changesFor('DELETE FROM notes', insert(3, BOB))).toEqual([[], [['INSERT', null, 'x']]]);
    const token = await server.token('root', 'admin');
    const { body } = await server.call('POST', '/realtime/channels/lobby/subscribe', {
      token,
      body: { table: 'notes' },
    });
    expect(body.warnings.join()).toContain('a DELETE is not sent');
    await run(server, `ALTER POLICY own ON notes USING (id < 5)`);
    expect(await changesFor('DELETE FROM notes')).toEqual(Array(2).fill([['DELETE', 3, null]]));
  });

  test('3: one applicable permissive policy and every restrictive policy must pass', async () => {
    const role = `other_${Math.random().toString(36).slice(2, 10)}`;
    await run(
      server,
      `CREATE ROLE ${role};
       CREATE POLICY short ON notes AS RESTRICTIVE USING (body <> 'long');
       CREATE POLICY open ON notes USING (body = 'open');
       CREATE POLICY of_others ON notes TO ${role} USING (true);
       CREATE POLICY for_writing ON notes FOR UPDATE USING (true)`,
    );
    try {
      const both = [['INSERT', null, 'open']];
      expect(
        await changesFor(insert(1, ADA, 'long'), insert(2, null, 'open'), insert(3, null, 'closed')),
      ).toEqual([both, both]);
      await run(server, 'DROP POLICY own ON notes; DROP POLICY open ON notes');
      expect(await changesFor(insert(4, ADA))).toEqual([[], []]);
      await run(server, 'ALTER TABLE notes DISABLE ROW LEVEL SECURITY');
      expect(await changesFor(insert(5, ADA, 'long'))).toEqual(Array(2).fill([['INSERT', null, 'long']]));
    } finally {
      await run(server, `DROP POLICY of_others ON notes; DROP ROLE ${role}`);
    }
  });

  test('4: a helper function is recognized by its definition, not by its name', async () => {
    await run(
      server,
      `CREATE SCHEMA auth; GRANT USAGE ON SCHEMA auth TO realtime_subscriber;
       CREATE FUNCTION auth.uid() RETURNS uuid LANGUAGE sql STABLE AS $$ SELECT '${BOB}'::uuid $$;
       ALTER POLICY own ON notes USING (${own.replace('uid()', '(SELECT auth.uid())')} OR (${own}))`,
    );
    expect(await changesFor(insert(1, BOB), insert(2, ADA))).toEqual([
      [
        ['INSERT', null, 'x'],
        ['INSERT', null, 'x'],
      ],
      [['INSERT', null, 'x']],
    ]);
  });

  test('5: policies are evaluated with the settings of each user, never with those of another', async () => {
    await run(
      server,
      `ALTER POLICY own ON notes USING ((${own}) AND current_setting('app.current_user_id', true) = owner::text
         AND coalesce(current_setting('request.jwt.claims', true)::jsonb ->> 'email', 'none') = 'none')`,
    );
    expect(await changesFor(insert(1, ADA), insert(2, BOB), insert(3, null))).toEqual(
      Array(2).fill([['INSERT', null, 'x']]),
    );
  });

  test('6: a column that the role may not read is in neither record, and no condition reads it', async () => {
    await subscribe(server, 'lobby', { table: 'notes', condition: `body = 'x'` });
    await run(
      server,
      'REVOKE SELECT ON notes FROM realtime_subscriber; GRANT SELECT (id, owner) ON notes TO realtime_subscriber',
    );
    await changesFor(insert(1, ADA), `UPDATE notes SET body = 'y'`);
    const changes = ada.all('database_change').map(({ payload }) => payload);
    expect(changes.map(({ change }) => [change.old_record, change.new_record])).toEqual([
      [null, { id: 1, owner: ADA }],
      [
        { id: 1, owner: ADA },
        { id: 1, owner: ADA },
      ],
    ]);
    expect(changes.map(({ subscription_ids }) => subscription_ids.length)).toEqual([1, 1]);
  });

  test('7: a policy that raises an error hides the row from that user, who is notified once', async () => {
    await run(server, `ALTER POLICY own ON notes USING ((${own}) AND 1 / length(body) > 0)`);
    expect(await changesFor(insert(1, ADA, ''), insert(2, ADA, ''), insert(3, ADA), insert(4, BOB))).toEqual(
      Array(2).fill([['INSERT', null, 'x']]),
    );
    const errorCodes = (client: TestClient) =>
      client.all('system', 'error').map(({ payload }) => payload.code);
    expect(errorCodes(ada)).toEqual(['POLICY_ERROR']);
    expect(ada.all('system', 'error')[0]?.payload).not.toHaveProperty('details');
  });

  test('9: a policy on a generated column is evaluated with the column’s expression', async () => {
    await run(
      server,
      `ALTER TABLE notes ADD mine text GENERATED ALWAYS AS (upper(body)) STORED;
       ALTER POLICY own ON notes USING ((${own}) AND mine = 'YES')`,
    );
    expect(await changesFor(insert(1, ADA, 'yes'), insert(2, ADA, 'no'))).toEqual([
      [['INSERT', null, 'yes']],
      [],
    ]);
    const token = await server.token('root', 'admin');
    const { body } = await server.call('POST', '/realtime/channels/lobby/subscribe', {
      token,
      body: { table: 'notes', condition: `mine = 'YES'` },
    });
    expect(body).toMatchObject({
      code: 'DB_SUBSCRIPTION_FAILED',
      details: expect.stringContaining('generated'),
    });
  });

  test('the list of tables contains the tier', async () => {
    const token = await server.token('root', 'admin');
    const { text } = await server.call('GET', '/realtime/triggers', { token });
    expect(text).toContain(`"tier":"${tier}"`);
  });
});
