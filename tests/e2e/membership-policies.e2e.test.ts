import pg from 'pg';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { Random } from '../fuzz/random.js';
import { cells } from '../support/matrix.js';
import { ADA, BOB, run, subscribe } from '../support/row-changes.js';
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

describe.each(CELLS)('policies of memberships, by the $source source on the $postgres PostgreSQL', (cell) => {
  const { postgres, source } = cell;
  let server: TestServer;
  let client: pg.Client;
  let clients: TestClient[];
  beforeEach(async () => {
    server = await startRowChangeServer({ REALTIME_CHANGE_SOURCE: source }, { postgres });
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

  async function optIn(...tables: readonly string[]): Promise<void> {
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

  /** Who gets what a transaction writes, when nothing comes behind it. */
  async function readers(...statements: readonly string[]): Promise<boolean[]> {
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

  const post = (room: number) => `INSERT INTO posts (room, body) VALUES (${room}, POST)`;

  test('are looked up once the table of members is set up, and judged by PostgreSQL before', async () => {
    await run(server, `INSERT INTO members VALUES (1, '${ADA}')`);
    expect(await readers(post(1))).toEqual([true, false]);
    expect(await tier()).toBe(
      'POSTGRES: policy p: it reads public.members, which is not set up for row changes',
    );
    await optIn('members');
    expect(await readers(post(1))).toEqual([true, false]);
    expect(await tier()).toBe('INDEXED: rows are looked up by room');
    expect(await readers(`DELETE FROM members`)).toEqual([false, false]);
    expect(await readers(post(1))).toEqual([false, false]);
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
  ])('a policy %s is what a SELECT shows after each transaction, whatever it did', async (policy, tables) => {
    await optIn(...tables);
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
      const got = await readers(...changes.slice(0, at), post(room), ...changes.slice(at));
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
    'a policy %s is what a SELECT shows in each transaction, though all are done before the first is judged',
    async (policy) => {
      await optIn('members');
      await run(
        server,
        `ALTER POLICY p ON posts USING (${policy});
       ALTER TABLE members DROP CONSTRAINT members_pkey; ALTER TABLE members ALTER room DROP NOT NULL;
       CREATE TABLE truth (post bigint, usr uuid); GRANT INSERT ON truth TO realtime_subscriber;`,
      );
      const random = new Random(5);
      // From here on the lists of both are known.
      await readers(post(1));
      for (let n = 0; n < 6; n++) {
        const transactions = Array.from({ length: 12 }, () => {
          const [room, user] = [random.chance(0.1) ? 'NULL' : random.below(3), random.of(USERS)];
          const change = random.of([
            `INSERT INTO members VALUES (${room}, '${user}', ${random.chance(0.5)})`,
            `INSERT INTO members VALUES (${room}, '${user}', ${random.chance(0.5)})`,
            `DELETE FROM members WHERE room = ${room} AND usr = '${user}'`,
            `UPDATE members SET muted = NOT muted WHERE usr = '${user}'`,
            `UPDATE members SET usr = '${user}' WHERE room = ${room}`,
            // A TRUNCATE is a change of the catalog, and counts at once.
            // Not a TRUNCATE, which changes the catalog and counts at once.
            'SELECT 1',
          ]);
          const told = USERS.map(
            (
              usr,
            ) => `SELECT set_config('request.jwt.claims', '{"sub": "${usr}"}', true), set_config('role', 'realtime_subscriber', true);
            INSERT INTO truth SELECT id, '${usr}' FROM posts WHERE id = (SELECT max(id) FROM posts) AND pg_current_xact_id()::text::bigint % 4294967296 = xmin::text::bigint;
            SELECT set_config('role', 'none', true)`,
          );
          const written = `INSERT INTO posts (room, body) VALUES (${random.below(3)}, 'x')`;
          return `BEGIN; ${random.chance(0.5) ? `${change}; ${written}` : `${written}; ${change}`}; ${told.join(';')}; COMMIT`;
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

  test('who joins while memberships change is known by the last of them', async () => {
    await optIn('members');
    expect(await readers(post(1))).toEqual([false, false]);
    const random = new Random(11);
    for (let n = 0; n < 40; n++) {
      const who = random.below(USERS.length);
      const [user, isMember] = [USERS[who] ?? '', random.chance(0.5)];
      const change = isMember
        ? `INSERT INTO members VALUES (1, '${user}') ON CONFLICT DO NOTHING`
        : `DELETE FROM members WHERE usr = '${user}'`;
      // Who stays has the list of when it joined, and what came behind that.
      const isComing = random.chance(0.5);
      const leaving = isComing ? clients[who]?.close() : undefined;
      const coming = isComing ? join(server, 'lobby', user) : undefined;
      const [member] = await Promise.all([coming, client.query(change), leaving]);
      if (member !== undefined) clients[who] = member;
      const got = await readers(post(1));
      expect({ n, who, isMember, got: got[who] }).toEqual({ n, who, isMember, got: isMember });
    }
  });

  test('who was removed before sees nothing of what comes after, however fast that is', async () => {
    await optIn('members');
    for (let n = 0; n < 100; n++) {
      await client.query(`INSERT INTO members VALUES (${n}, '${ADA}')`);
      await client.query(`INSERT INTO posts (room, body) VALUES (${n}, 'open')`);
      await client.query(`DELETE FROM members`);
      await client.query(`INSERT INTO posts (room, body) VALUES (${n}, 'secret')`);
    }
    expect(await readers(post(1))).toEqual([false, false]);
    const [ada] = clients;
    const bodies = ada?.all('database_change').map(({ payload }) => payload.change.new_record?.body);
    expect(bodies).not.toContain('secret');
  });

  test('what a long transaction does to memberships at its end counts for all of it', async () => {
    await optIn('members');
    await run(server, `INSERT INTO members VALUES (1, '${ADA}'), (1, '${BOB}')`);
    expect(await readers(post(1))).toEqual([true, true]);
    await client.query(
      `BEGIN; INSERT INTO posts (room, body) SELECT 1, 'long' FROM generate_series(1, 2000); DELETE FROM members WHERE usr = '${ADA}'; COMMIT`,
    );
    expect(await readers(post(1))).toEqual([false, true]);
    const seen = clients.map(
      (member) =>
        member.all('database_change').filter(({ payload }) => payload.change.new_record?.body === 'long')
          .length,
    );
    expect(seen).toEqual([0, 2_000]);
  });

  test('row level security of the table of members holds as well', async () => {
    await optIn('members');
    // Each in a transaction of its own: one that locks members and then posts can deadlock with the server, which reads posts first.
    for (const statement of [
      'ALTER POLICY p ON posts USING (room IN (SELECT members.room FROM members))',
      'ALTER TABLE members ENABLE ROW LEVEL SECURITY; CREATE POLICY mine ON members USING (usr = uid() AND NOT muted)',
      `INSERT INTO members VALUES (1, '${ADA}', false), (1, '${BOB}', true)`,
    ])
      await run(server, statement);
    expect(await readers(post(1))).toEqual([true, false]);
    expect(await tier()).toBe('INDEXED: rows are looked up by room');
    await run(server, 'UPDATE members SET muted = NOT muted');
    expect(await readers(post(1))).toEqual([false, true]);
    await run(server, 'ALTER POLICY mine ON members USING (true)');
    expect(await readers(post(1))).toEqual([true, true]);
  });

  test('a table of members that is taken out of the stream is not relied on any more', async () => {
    await optIn('members');
    await run(server, `INSERT INTO members VALUES (1, '${ADA}')`);
    expect(await readers(post(1))).toEqual([true, false]);
    await run(
      server,
      source === 'logical'
        ? 'ALTER PUBLICATION realtime_publication DROP TABLE members; DELETE FROM members'
        : 'ALTER TABLE members DISABLE TRIGGER members_changes_trigger; DELETE FROM members',
    );
    expect(await readers(post(1))).toEqual([false, false]);
    expect(await tier()).toContain('POSTGRES: policy p: it reads public.members');
  });
});
