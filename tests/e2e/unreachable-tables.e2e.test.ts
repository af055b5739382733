import { randomBytes } from 'node:crypto';
import { tmpdir } from 'node:os';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { runCli } from '../support/cli.js';
import { createTestDatabase, dropSlot, sql } from '../support/postgres-database.js';
import { ADA, nextChange, subscribe } from '../support/row-changes.js';
import { join } from '../support/test-client.js';
import { startRowChangeServer, type TestServer } from '../support/test-server.js';

const CASES = [
  ['newest', 'logical'],
  ['oldest', 'trigger'],
] as const;

/** Returns the statements of a kind that a text advises, as printed. */
const advised = (text: string, kind: string) =>
  [...text.matchAll(new RegExp(`\\b${kind}\\b[^;]*;`, 'g'))].map(([statement]) => statement);

describe.each(CASES)(
  'a table that no subscriber can see, on the %s PostgreSQL, change source %s',
  (postgres, source) => {
    let database: { url: string; name: string; drop: () => Promise<void> };
    let slot: string;
    let login: string;
    /** A role with a name that must be quoted. */
    let members: string;
    let url: string;
    let server: TestServer | undefined;

    const asAdmin = (text: string) => sql(database.url, text);
    const asLogin = (text: string) => sql(url, text);

    beforeEach(async () => {
      database = await createTestDatabase(postgres);
      const suffix = randomBytes(4).toString('hex');
      slot = `test_${suffix}`;
      login = `login_${suffix}`;
      members = `Members ${suffix}`;
      url = Object.assign(new URL(database.url), { username: login, password: 'p' }).href;
      await asAdmin(`
      DO $$ BEGIN CREATE ROLE realtime_subscriber NOLOGIN NOINHERIT; EXCEPTION WHEN duplicate_object OR unique_violation THEN NULL; END $$;
      CREATE ROLE ${login} LOGIN REPLICATION PASSWORD 'p';
      CREATE ROLE "${members}" NOLOGIN;
      GRANT realtime_subscriber TO ${login};
      GRANT CREATE ON DATABASE ${database.name} TO ${login};
      CREATE SCHEMA app AUTHORIZATION ${login};
      ALTER ROLE ${login} IN DATABASE ${database.name} SET search_path = app`);
      await asLogin(`
      CREATE TABLE notes (id int PRIMARY KEY, owner text, kind text DEFAULT 'plain');
      ALTER TABLE notes ENABLE ROW LEVEL SECURITY;
      ALTER TABLE notes FORCE ROW LEVEL SECURITY`);
    });
    afterEach(async () => {
      await server?.stop();
      server = undefined;
      await dropSlot(database.url, slot);
      await database.drop();
      const rest = await createTestDatabase(postgres);
      await sql(rest.url, `DROP OWNED BY ${login}; DROP ROLE ${login}; DROP ROLE "${members}"`);
      await rest.drop();
    });

    const env = (dbRoles: string) => ({
      REALTIME_CHANGE_SOURCE: source,
      DATABASE_URL: url,
      REALTIME_REPLICATION_SLOT: slot,
      REALTIME_MAX_RECONNECT_DELAY: '200ms',
      REALTIME_DB_ROLES: dbRoles,
    });

    async function start(dbRoles = ''): Promise<TestServer> {
      await server?.stop();
      server = await startRowChangeServer(env(dbRoles));
      return server;
    }

    async function warningsOf(running: TestServer, path: string, body: object): Promise<string[]> {
      const token = await running.token('root', 'admin');
      const { status, body: answer } = await running.call('POST', path, { token, body });
      expect([status, answer.details]).toEqual([200, undefined]);
      return (answer.warnings ?? []).filter((text) => text.startsWith('No subscriber can see'));
    }

    const enable = (running: TestServer) => warningsOf(running, '/realtime/triggers/notes?schema=app', {});

    async function doctor(dbRoles = ''): Promise<{ code: number | null; stdout: string }> {
      return runCli(['doctor'], { cwd: tmpdir(), env: env(dbRoles) });
    }

    async function explain(running: TestServer, user: object = { sub: ADA }) {
      const token = await running.token('root', 'admin');
      const body = { table: 'notes', schema: 'app', user, row: { id: 1, owner: ADA, kind: 'plain' } };
      const answer = await running.call('POST', '/realtime/explain', { token, body });
      expect(answer.status).toBe(200);
      return answer.body as unknown as { visible: boolean; reasons: string[] };
    }

    /** Checks that Ada receives her row, and not the row that a restrictive policy hides. */
    async function expectArrival(running: TestServer, role = 'user'): Promise<void> {
      await subscribe(running, 'lobby', { table: 'notes', schema: 'app' });
      const ada = await join(running, 'lobby', ADA, { role });
      await asAdmin(`INSERT INTO app.notes VALUES (1, '${ADA}', 'hidden'), (2, '${ADA}', 'plain')`);
      expect((await nextChange(ada)).new_record?.id).toBe(2);
      await ada.close();
    }

    const POLICIES = () => `
    CREATE POLICY "own rows" ON notes FOR SELECT TO "${members}" USING (owner = current_setting('app.current_user_id'));
    CREATE POLICY "all" ON notes FOR ALL TO "${members}" USING (true);
    CREATE POLICY plain_only ON notes AS RESTRICTIVE FOR SELECT TO "${members}" USING (kind = 'plain');
    CREATE POLICY writing ON notes FOR INSERT WITH CHECK (true)`;

    test('is reported everywhere when its policies are for other roles, and the printed ALTER POLICY fixes it', async () => {
      await asLogin(POLICIES());
      const running = await start();
      const [warning = ''] = await enable(running);
      expect(warning).toContain('No subscriber can see a row of app.notes');
      expect(warning).toContain(`"own rows" (TO "${members}"), plain_only (restrictive, TO "${members}")`);
      expect(warning).not.toContain('writing');
      await running.call('POST', '/realtime/channels', {
        token: await running.token('root', 'admin'),
        body: { name: 'lobby' },
      });
      const filter = { table: 'notes', schema: 'app' };
      expect(await warningsOf(running, '/realtime/channels/lobby/subscribe', filter)).toEqual([warning]);
      const found = await doctor();
      expect(found.stdout).toContain(`GF127 warning: no subscriber can see a row of 1 table\n  ${warning}\n`);
      const explained = await explain(running);
      expect(explained.visible).toBe(false);
      expect(explained.reasons[0]).toMatch(/no permissive policy for SELECT applies to realtime_subscriber/);
      const statements = advised(warning, 'ALTER POLICY');
      expect(statements).toHaveLength(2);
      expect(advised(explained.reasons.join(' '), 'ALTER POLICY')).toEqual(statements);
      await asLogin(statements.join(' '));
      expect(await enable(running)).toEqual([]);
      expect((await doctor()).stdout).not.toContain('GF127');
      expect((await explain(running)).visible).toBe(true);
      await expectArrival(running);
    });

    test('becomes visible to users whose token has the role, with the printed setting and GRANT', async () => {
      await asLogin(POLICIES());
      const [warning = ''] = await enable(await start());
      const [, dbRoles = ''] = /REALTIME_DB_ROLES=(.*?) and run/.exec(warning) ?? [];
      expect(dbRoles).toBe(members);
      const grants = advised(warning, 'GRANT');
      expect(grants).toHaveLength(3);
      for (const grant of grants) await asAdmin(grant);
      const running = await start(dbRoles);
      expect(await enable(running)).toEqual([]);
      expect((await doctor(dbRoles)).stdout).not.toContain('GF127');
      // Only explain reports a single role that cannot see rows.
      expect((await explain(running)).reasons.join()).toContain(
        `Users of another database role can see rows: "${members}"`,
      );
      expect(await explain(running, { sub: ADA, role: members })).toMatchObject({ visible: true });
      await expectArrival(running, members);
    });

    test('is reported when it has no policy, and the printed CREATE POLICY fixes it', async () => {
      const running = await start();
      const [warning = ''] = await enable(running);
      expect(warning).toContain('the table has no policy for SELECT');
      expect((await doctor()).stdout).toContain('GF127 warning');
      const [statement = ''] = advised(warning, 'CREATE POLICY');
      await asLogin(
        statement.replace('…', `owner = current_setting('app.current_user_id') AND kind = 'plain'`),
      );
      expect(await enable(running)).toEqual([]);
      await expectArrival(running);
    });

    test('is reported when privileges were revoked, and the printed GRANTs fix it', async () => {
      await asLogin(
        `CREATE POLICY own ON notes USING (owner = current_setting('app.current_user_id') AND kind = 'plain')`,
      );
      const running = await start();
      expect(await enable(running)).toEqual([]);
      expect((await doctor()).stdout).not.toContain('GF127');
      await asLogin(
        `REVOKE SELECT ON notes FROM realtime_subscriber; REVOKE USAGE ON SCHEMA app FROM realtime_subscriber`,
      );
      const { stdout } = await doctor();
      expect(stdout).toContain('GF127 warning');
      expect(stdout).toContain('the role realtime_subscriber has no USAGE privilege on the schema app');
      expect(stdout).toContain('the role realtime_subscriber has no SELECT privilege on app.notes');
      expect(stdout).not.toContain('No problems found');
      expect((await explain(running)).reasons.join()).toContain('has no SELECT privilege on app.notes');
      for (const grant of advised(stdout, 'GRANT')) await asLogin(grant);
      expect((await doctor()).stdout).not.toContain('GF127');
      await expectArrival(running);
    });
  },
);
