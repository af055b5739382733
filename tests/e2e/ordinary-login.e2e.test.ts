import { randomBytes } from 'node:crypto';
import { tmpdir } from 'node:os';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { runCli } from '../support/cli.js';
import { eventually } from '../support/eventually.js';
import { postgresVersions } from '../support/matrix.js';
import { createTestDatabase, dropSlot, sql } from '../support/postgres-database.js';
import { ADA, BOB, MESSAGES, nextChange, subscribe } from '../support/row-changes.js';
import { join } from '../support/test-client.js';
import { startRowChangeServer, type TestServer } from '../support/test-server.js';

const VERSIONS = postgresVersions('newest', 'oldest');

describe.each(VERSIONS)('a login without superuser on the %s PostgreSQL', (version) => {
  let database: { url: string; name: string; drop: () => Promise<void> };
  let slot: string;
  let login: string;
  let url: string;
  let server: TestServer | undefined;

  /** Run statements as the superuser and as the login. */
  const asAdmin = (text: string) => sql(database.url, text);
  const asLogin = (text: string) => sql(url, text);

  beforeEach(async () => {
    database = await createTestDatabase(version);
    slot = `test_${randomBytes(6).toString('hex')}`;
    login = `login_${randomBytes(4).toString('hex')}`;
    const at = new URL(database.url);
    Object.assign(at, { username: login, password: 'p' });
    url = at.href;
    // Roles belong to the whole cluster: another test may have created this one.
    await asAdmin(`
      DO $$ BEGIN CREATE ROLE realtime_subscriber NOLOGIN NOINHERIT; EXCEPTION WHEN duplicate_object OR unique_violation THEN NULL; END $$;
      CREATE ROLE ${login} LOGIN REPLICATION PASSWORD 'p';
      GRANT realtime_subscriber TO ${login};
      GRANT CREATE ON DATABASE ${database.name} TO ${login};
      CREATE SCHEMA app AUTHORIZATION ${login};
      ALTER ROLE ${login} IN DATABASE ${database.name} SET search_path = app`);
  });
  afterEach(async () => {
    await server?.stop();
    server = undefined;
    await dropSlot(database.url, slot);
    await database.drop();
    const other = await createTestDatabase(version);
    await sql(other.url, `DROP OWNED BY ${login}; DROP ROLE ${login}`);
    await other.drop();
  });

  async function start(awaitStream = true): Promise<TestServer> {
    const env = {
      REALTIME_CHANGE_SOURCE: 'logical',
      DATABASE_URL: url,
      REALTIME_REPLICATION_SLOT: slot,
      REALTIME_MAX_RECONNECT_DELAY: '200ms',
    };
    server = await startRowChangeServer(env, { awaitStream });
    return server;
  }
  const readiness = async () => (await server?.call('GET', '/readyz'))?.body.parts.row_changes;
  const untilStreaming = () =>
    eventually(async () => expect(await readiness()).toEqual({ status: 'streaming' }));
  const untilRefused = (reason: string) =>
    eventually(async () => expect(await readiness()).toEqual({ status: 'refused', reason }));

  test('enables tables, subscribes and streams the rows that row level security shows', async () => {
    const running = await start();
    await asLogin(MESSAGES);
    await subscribe(running, 'mine', {
      table: 'messages',
      schema: 'app',
      condition: `content <> 'left out'`,
    });
    const [ada, bob] = [await join(running, 'mine', ADA), await join(running, 'mine', BOB)];
    await asLogin(`
      INSERT INTO messages (content, user_id) VALUES ('left out', '${ADA}'), ('for Ada', '${ADA}'), ('for Bob', '${BOB}')`);
    expect((await nextChange(ada)).new_record?.content).toBe('for Ada');
    expect((await nextChange(bob)).new_record?.content).toBe('for Bob');
    // The login may read all rows; the role that policies are evaluated for may not even insert.
    await expect(
      asLogin(`SET ROLE realtime_subscriber; INSERT INTO app.messages (content) VALUES ('x')`),
    ).rejects.toThrow('permission denied');
  });

  test('that owns tables is warned by doctor that policies apply neither to it nor to listed roles that own tables', async () => {
    const running = await start();
    await asLogin(MESSAGES);
    await subscribe(running, 'mine', { table: 'messages', schema: 'app' });
    const doctor = async (roles: string) => {
      const env = { DATABASE_URL: url, REALTIME_REPLICATION_SLOT: slot, REALTIME_DB_ROLES: roles };
      const { stdout } = await runCli(['doctor'], { cwd: tmpdir(), env });
      return stdout;
    };
    const plain = await doctor('');
    expect(plain).toContain("GF126 warning: row level security does not apply to the server's login");
    expect(plain).not.toContain('GF125');
    const listed = await doctor(`${login},ghost_of_nobody`);
    expect(listed).toContain(`get every row: ${login} on app.messages.`);
    expect(listed).toContain('GF124 warning: 1 roles of REALTIME_DB_ROLES cannot be used');
    expect(listed).toContain('ghost_of_nobody does not exist');
    await asLogin('ALTER TABLE messages FORCE ROW LEVEL SECURITY');
    expect(await doctor(login)).toContain('No problems found.');
  });

  test('without REPLICATION is refused with the number of the finding, and streams once it has it', async () => {
    await asAdmin(`ALTER ROLE ${login} NOREPLICATION`);
    await start(false);
    await untilRefused('GF104 the login is not allowed to replicate');
    await asAdmin(`ALTER ROLE ${login} REPLICATION`);
    await untilStreaming();
  });

  test('that loses and regains REPLICATION delivers the rows that were written in between', async () => {
    const running = await start();
    await asLogin('CREATE TABLE notes (id int PRIMARY KEY)');
    await subscribe(running, 'notes', { table: 'notes', schema: 'app' });
    const ada = await join(running, 'notes', ADA);
    await asLogin('INSERT INTO notes VALUES (1)');
    expect((await nextChange(ada)).new_record).toEqual({ id: 1 });
    await asAdmin(`ALTER ROLE ${login} NOREPLICATION`);
    await asAdmin(
      `SELECT pg_terminate_backend(active_pid) FROM pg_replication_slots WHERE slot_name = '${slot}'`,
    );
    await untilRefused('GF104 the login is not allowed to replicate');
    await ada.next('system', 'database_down');
    await asLogin('INSERT INTO notes VALUES (2)');
    await asAdmin(`ALTER ROLE ${login} REPLICATION`);
    await ada.next('system', 'database_up');
    expect((await nextChange(ada)).new_record).toEqual({ id: 2 });
  });

  test('that is removed from realtime_subscriber stops streaming, and streams again once it is added', async () => {
    const running = await start();
    await asLogin('CREATE TABLE notes (id int PRIMARY KEY)');
    await subscribe(running, 'notes', { table: 'notes', schema: 'app' });
    await asAdmin(`REVOKE realtime_subscriber FROM ${login}`);
    await asAdmin(
      `SELECT pg_terminate_backend(active_pid) FROM pg_replication_slots WHERE slot_name = '${slot}'`,
    );
    await eventually(async () => expect((await readiness())?.status).toBe('refused'));
    expect((await readiness())?.reason).toMatch(/^GF1\d\d /);
    await asAdmin(`GRANT realtime_subscriber TO ${login}`);
    await untilStreaming();
    const ada = await join(running, 'notes', ADA);
    await asLogin('INSERT INTO notes VALUES (1)');
    expect((await nextChange(ada)).new_record).toEqual({ id: 1 });
  });
});
