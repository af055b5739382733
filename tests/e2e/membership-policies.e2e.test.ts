import pg from 'pg';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { Random } from '../fuzz/random.js';
import { eventually } from '../support/eventually.js';
import { cells } from '../support/matrix.js';
import { type OwnPostgres, startOwnPostgres } from '../support/own-postgres.js';
import { ADA, BOB, run, subscribe } from '../support/row-changes.js';
import { sql } from '../support/sql.js';
import { join, type TestClient } from '../support/test-client.js';
import { startRowChangeServer, type TestServer } from '../support/test-server.js';

const USERS = [ADA, BOB];
const SCHEMA = `
  CREATE TABLE rooms (id int PRIMARY KEY, team int);
  CREATE TABLE members (room int, usr uuid, muted bool DEFAULT false, PRIMARY KEY (room, usr));
  CREATE TABLE teams (team int, usr uuid, PRIMARY KEY (team, usr));
  CREATE TABLE posts (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, room int, body text);
  GRANT SELECT ON rooms, members, teams TO realtime_subscriber;
  ALTER TABLE posts ENABLE ROW LEVEL SECURITY;
  CREATE FUNCTION uid() RETURNS uuid LANGUAGE sql STABLE AS $$ SELECT (current_setting('request.jwt.claims', true)::jsonb ->> 'sub')::uuid $$;
  CREATE POLICY p ON posts USING (room IN (SELECT members.room FROM members WHERE usr = uid()));
  INSERT INTO rooms SELECT n, n % 2 FROM generate_series(0, 3) n`;

const CELLS = cells({ postgres: 'oldest', source: 'logical' }, { postgres: 'newest', source: 'trigger' });

describe.each(CELLS)('policies of memberships ($source source, $postgres PostgreSQL)', (cell) => {
  const { postgres, source } = cell;
  let server: TestServer;
  let client: pg.Client;
  let clients: TestClient[];
  // Roles are of the whole cluster: when other tests change them, lists are read again, and are as of then.
  let cluster: OwnPostgres | undefined;
  let databases = 0;
  beforeAll(async () => {
    cluster = await startOwnPostgres(postgres);
  });
  afterAll(async () => {
    await cluster?.stop();
  });
  beforeEach(async () => {
    if (cluster === undefined) throw new Error('PostgreSQL did not start');
    const database = new URL(cluster.url);
    database.pathname = `/memberships_${databases++}`;
    await sql(cluster.url, `CREATE DATABASE ${database.pathname.slice(1)}`);
    server = await startRowChangeServer({ REALTIME_CHANGE_SOURCE: source, DATABASE_URL: database.href });
    await run(server, SCHEMA);
    await subscribe(server, 'lobby', { table: 'posts' });
    client = new pg.Client({ connectionString: server.databaseUrl });
    await client.connect();
    clients = [];
    for (const user of USERS) clients.push(await join(server, 'lobby', user));
  });
  afterEach(async () => {
    await client.end();
    await server.stop();
  });

  async function enable(...tables: readonly string[]): Promise<void> {
    const token = await server.token('root', 'admin');
    for (const table of tables) {
      const { status } = await server.call('POST', `/realtime/triggers/${table}`, { token, body: {} });
      expect(status).toBe(200);
    }
  }

  async function tier(): Promise<string> {
    const { body } = await server.call('GET', '/realtime/triggers', {
      token: await server.token('root', 'admin'),
    });
    const tables = body.triggers as unknown as {
      table: string;
      visibility: [{ tier: string; reason: string }];
    }[];
    const found = tables.find(({ table }) => table === 'posts')?.visibility[0];
    return `${found?.tier}: ${found?.reason}`;
  }

  /** Writes a row (`POST`) in a transaction and returns, for each client, whether it received the row. */
  async function received(...statements: readonly string[]): Promise<boolean[]> {
    const body = `b${Math.random()}`;
    const text = statements.map((statement) => statement.replace('POST', `'${body}'`));
    await client.query(`BEGIN; ${text.join(';')}; SELECT realtime.send('lobby', 'end', '{}'); COMMIT`);
    const got: boolean[] = [];
    for (const member of clients) {
      await member.next('message', 'end');
      got.push(member.all('database_change').some(({ payload }) => payload.change.new_record?.body === body));
    }
    return got;
  }

  /** The stream describes only posts before its changes: the catalog of members is checked at intervals. */
  async function eventuallyReceived(expected: readonly boolean[]): Promise<void> {
    await eventually(async () => expect(await received(post(1))).toEqual(expected));
  }

  const post = (room: number) => `INSERT INTO posts (room, body) VALUES (${room}, POST)`;

  test('are evaluated by PostgreSQL until the membership table is enabled, and by index afterwards', async () => {
    await run(server, `INSERT INTO members VALUES (1, '${ADA}')`);
    expect(await received(post(1))).toEqual([true, false]);
    expect(await tier()).toBe(
      'POSTGRES: policy p: it reads public.members, which is not set up for row changes',
    );
    await enable('members');
    expect(await received(post(1))).toEqual([true, false]);
    expect(await tier()).toBe('INDEXED: rows are looked up by room');
    expect(await received(`DELETE FROM members`)).toEqual([false, false]);
    expect(await received(post(1))).toEqual([false, false]);
  });

  test.each([
    ['room IN (SELECT members.room FROM members WHERE usr = uid())', ['members']],
    ['EXISTS (SELECT 1 FROM members m WHERE m.room = posts.room AND m.usr = (SELECT uid()))', ['members']],
    [
      `room IN (SELECT m.room FROM members m WHERE m.usr = current_setting('app.current_user_id')::uuid)`,
      ['members'],
    ],
    [
      `room IN (SELECT m.room FROM members m WHERE m.usr = ANY (string_to_array(current_setting('app.current_user_id'), ',')::uuid[]))`,
      ['members'],
    ],
    ['room = 0 OR room IN (SELECT m.room FROM members m WHERE usr = uid() AND NOT muted)', ['members']],
    [
      'room IN (SELECT r.id FROM rooms r JOIN teams t ON t.team = r.team WHERE t.usr = uid())',
      ['rooms', 'teams'],
    ],
  ])('with the policy %s, users receive what SELECT shows after each transaction', async (policy, tables) => {
    await enable(...tables);
    await run(server, `ALTER POLICY p ON posts USING (${policy})`);
    const random = new Random(7);
    for (let n = 0; n < 30; n++) {
      const changes = Array.from({ length: random.below(3) }, () => {
        const [room, user] = [random.below(4), random.of(USERS)];
        return random.of([
          `INSERT INTO members VALUES (${room}, '${user}') ON CONFLICT DO NOTHING`,
          `DELETE FROM members WHERE room = ${room} AND usr = '${user}'`,
          `UPDATE members SET muted = NOT muted WHERE usr = '${user}'`,
          `UPDATE members SET usr = '${user}' WHERE room = ${room} AND NOT EXISTS (SELECT FROM members WHERE room = ${room} AND usr = '${user}')`,
          `INSERT INTO teams VALUES (${room % 2}, '${user}') ON CONFLICT DO NOTHING`,
          `DELETE FROM teams WHERE usr = '${user}'`,
          `UPDATE rooms SET team = 1 - team WHERE id = ${room}`,
          ...(random.chance(0.1) ? ['TRUNCATE members'] : []),
        ]);
      });
      const at = random.below(changes.length + 1);
      const room = random.below(4);
      const got = await received(...changes.slice(0, at), post(room), ...changes.slice(at));
      const truth: boolean[] = [];
      for (const user of USERS) {
        await client.query('BEGIN');
        await client.query(
          `SELECT set_config('request.jwt.claims', $1, true), set_config('app.current_user_id', $2, true), set_config('role', 'realtime_subscriber', true)`,
          [JSON.stringify({ sub: user }), user],
        );
        const { rowCount } = await client.query('SELECT FROM posts WHERE id = (SELECT max(id) FROM posts)');
        const { rows } = await client.query('SELECT count(*)::int AS count FROM posts WHERE room = $1', [
          room,
        ]);
        truth.push(rows[0].count > 0);
        expect(rowCount).toBeLessThan(2);
        await client.query('ROLLBACK');
      }
      expect({ n, changes, room, got }).toEqual({ n, changes, room, got: truth });
    }
    expect(await tier()).toMatch(/^INDEXED/);
  });

  test.each([
    'room IN (SELECT members.room FROM members WHERE usr = uid())',
    'EXISTS (SELECT 1 FROM members m WHERE m.room = posts.room AND m.usr = (SELECT uid()))',
    'room = 0 OR room IN (SELECT m.room FROM members m WHERE usr = uid() AND NOT muted)',
    'room NOT IN (SELECT m.room FROM members m WHERE m.usr = uid() AND muted)',
  ])(
    'with the policy %s, users receive what SELECT shows in each transaction, even if later ones have committed',
    async (policy) => {
      await enable('members');
      await run(
        server,
        `ALTER POLICY p ON posts USING (${policy});
       ALTER TABLE members DROP CONSTRAINT members_pkey; ALTER TABLE members ALTER room DROP NOT NULL;
       CREATE TABLE truth (post bigint, usr uuid); GRANT INSERT ON truth TO realtime_subscriber;`,
      );
      const random = new Random(5);
      // The membership lists of both users are evaluated from here on.
      await received(post(1));
      for (let n = 0; n < 6; n++) {
        const transactions = Array.from({ length: 12 }, () => {
          const [room, user] = [random.chance(0.1) ? 'NULL' : random.below(3), random.of(USERS)];
          const change = random.of([
            `INSERT INTO members VALUES (${room}, '${user}', ${random.chance(0.5)})`,
            `INSERT INTO members VALUES (${room}, '${user}', ${random.chance(0.5)})`,
            `DELETE FROM members WHERE room = ${room} AND usr = '${user}'`,
            `UPDATE members SET muted = NOT muted WHERE usr = '${user}'`,
            `UPDATE members SET usr = '${user}' WHERE room = ${room}`,
            // No TRUNCATE here: it changes the catalog and applies at once.
            'SELECT 1',
          ]);
          const recordTruth = USERS.map(
            (
              usr,
            ) => `SELECT set_config('request.jwt.claims', '{"sub": "${usr}"}', true), set_config('role', 'realtime_subscriber', true);
            INSERT INTO truth SELECT id, '${usr}' FROM posts WHERE id = (SELECT max(id) FROM posts) AND pg_current_xact_id()::text::bigint % 4294967296 = xmin::text::bigint;
            SELECT set_config('role', 'none', true)`,
          );
          const written = `INSERT INTO posts (room, body) VALUES (${random.below(3)}, 'x')`;
          return `BEGIN; ${random.chance(0.5) ? `${change}; ${written}` : `${written}; ${change}`}; ${recordTruth.join(';')}; COMMIT`;
        });
        const before = clients.map((member) => member.all('database_change').length);
        await client.query(`${transactions.join(';')}; SELECT realtime.send('lobby', 'end', '{}')`);
        for (const [who, member] of clients.entries()) {
          await member.next('message', 'end');
          const got = member
            .all('database_change')
            .slice(before[who])
            .map(({ payload }) => Number(payload.change.new_record?.id));
          const { rows } = await client.query<{ post: string }>(
            'SELECT post FROM truth WHERE usr = $1 ORDER BY post',
            [USERS[who]],
          );
          expect({ n, who, got }).toEqual({ n, who, got: rows.map(({ post: id }) => Number(id)) });
        }
        await run(server, 'TRUNCATE truth');
      }
      expect(await tier()).toMatch(/^(INDEXED|COMPILED)/);
    },
  );

  test('a user who joins while memberships change receives rows by the latest membership', async () => {
    await enable('members');
    expect(await received(post(1))).toEqual([false, false]);
    const random = new Random(11);
    for (let n = 0; n < 40; n++) {
      const who = random.below(USERS.length);
      const [user, isMember] = [USERS[who] ?? '', random.chance(0.5)];
      const change = isMember
        ? `INSERT INTO members VALUES (1, '${user}') ON CONFLICT DO NOTHING`
        : `DELETE FROM members WHERE usr = '${user}'`;
      // A client that stays connected keeps the list from its join, updated by later changes.
      const isRejoining = random.chance(0.5);
      const leaving = isRejoining ? clients[who]?.close() : undefined;
      const rejoining = isRejoining ? join(server, 'lobby', user) : undefined;
      const [member] = await Promise.all([rejoining, client.query(change), leaving]);
      if (member !== undefined) clients[who] = member;
      const got = await received(post(1));
      expect({ n, who, isMember, got: got[who] }).toEqual({ n, who, isMember, got: isMember });
    }
  });

  test('a removed user receives no row that is written after the removal, however soon', async () => {
    await enable('members');
    for (let n = 0; n < 100; n++) {
      await client.query(`INSERT INTO members VALUES (${n}, '${ADA}')`);
      await client.query(`INSERT INTO posts (room, body) VALUES (${n}, 'open')`);
      await client.query(`DELETE FROM members`);
      await client.query(`INSERT INTO posts (room, body) VALUES (${n}, 'secret')`);
    }
    expect(await received(post(1))).toEqual([false, false]);
    const [ada] = clients;
    const bodies = ada?.all('database_change').map(({ payload }) => payload.change.new_record?.body);
    expect(bodies).not.toContain('secret');
  });

  test('a membership change at the end of a long transaction applies to all rows of the transaction', async () => {
    await enable('members');
    await run(server, `INSERT INTO members VALUES (1, '${ADA}'), (1, '${BOB}')`);
    expect(await received(post(1))).toEqual([true, true]);
    await client.query(
      `BEGIN; INSERT INTO posts (room, body) SELECT 1, 'long' FROM generate_series(1, 2000); DELETE FROM members WHERE usr = '${ADA}'; COMMIT`,
    );
    expect(await received(post(1))).toEqual([false, true]);
    const seen = clients.map(
      (member) =>
        member.all('database_change').filter(({ payload }) => payload.change.new_record?.body === 'long')
          .length,
    );
    expect(seen).toEqual([0, 2_000]);
  });

  test('row level security of the membership table applies too', async () => {
    await enable('members');
    // Each in a transaction of its own: the server reads posts first, so that a transaction that locks
    // members and then posts can deadlock with it.
    for (const statement of [
      'ALTER POLICY p ON posts USING (room IN (SELECT members.room FROM members))',
      'ALTER TABLE members ENABLE ROW LEVEL SECURITY; CREATE POLICY mine ON members USING (usr = uid() AND NOT muted)',
      `INSERT INTO members VALUES (1, '${ADA}', false), (1, '${BOB}', true)`,
    ])
      await run(server, statement);
    expect(await received(post(1))).toEqual([true, false]);
    expect(await tier()).toBe('INDEXED: rows are looked up by room');
    await run(server, 'UPDATE members SET muted = NOT muted');
    expect(await received(post(1))).toEqual([false, true]);
    await run(server, 'ALTER POLICY mine ON members USING (true)');
    await eventuallyReceived([true, true]);
  });

  test('PostgreSQL evaluates the policies again after the membership table has left the change stream', async () => {
    await enable('members');
    await run(server, `INSERT INTO members VALUES (1, '${ADA}')`);
    expect(await received(post(1))).toEqual([true, false]);
    await run(
      server,
      source === 'logical'
        ? 'ALTER PUBLICATION realtime_publication DROP TABLE members; DELETE FROM members'
        : 'ALTER TABLE members DISABLE TRIGGER members_changes_trigger; DELETE FROM members',
    );
    await eventuallyReceived([false, false]);
    // The catalog of the tables behind lists is checked every 500 ms.
    await eventually(async () =>
      expect(await tier()).toContain('POSTGRES: policy p: it reads public.members'),
    );
  });
});
