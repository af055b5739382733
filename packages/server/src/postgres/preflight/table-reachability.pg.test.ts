import { randomBytes } from 'node:crypto';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { connectedDatabase } from '../../../../../tests/support/connected-database.js';
import { postgresVersions } from '../../../../../tests/support/matrix.js';
import {
  createTestDatabase,
  sql,
  type TestDatabase,
} from '../../../../../tests/support/postgres-database.js';
import type { Database } from '../connection/database.js';
import { roleObstacles, unreachableWarning } from './reachability-advice.js';
import { readReachability } from './table-reachability.js';

const VERSIONS = postgresVersions('newest', 'oldest');

describe.each(VERSIONS)('what subscribers can see of tables, on the %s PostgreSQL', (version) => {
  const suffix = randomBytes(4).toString('hex');
  const [reader, heir, owner] = [`reader_${suffix}`, `heir_${suffix}`, `owner_${suffix}`];
  let test: TestDatabase;
  let database: Database;
  let tables = 0;

  beforeAll(async () => {
    test = await createTestDatabase(version);
    database = await connectedDatabase(test.url);
    await sql(
      test.url,
      `CREATE ROLE ${reader}; CREATE ROLE ${owner}; CREATE ROLE ${heir} NOINHERIT; GRANT ${reader} TO ${heir}`,
    );
  });
  afterAll(async () => {
    await database.stop();
    await sql(test.url, `DROP OWNED BY ${reader}, ${heir}, ${owner}; DROP ROLE ${reader}, ${heir}, ${owner}`);
    await test.drop();
  });

  /** What is said of a table with row level security that all three roles and the default one may read. */
  async function warningFor(
    statements: (table: string) => string,
    { dbRoles = [], enableRls = true }: { dbRoles?: readonly string[]; enableRls?: boolean } = {},
  ) {
    const name = `t${tables++}`;
    await sql(
      test.url,
      `CREATE TABLE ${name} (id int, body text); ALTER TABLE ${name} ENABLE ROW LEVEL SECURITY;
       GRANT SELECT ON ${name} TO realtime_subscriber, ${reader}, ${heir}; ${statements(name)}`,
    );
    const oids = `SELECT 'public.${name}'::regclass`;
    const [table] = await readReachability(database, { oids, dbRoles, enableRls });
    if (table === undefined) throw new Error('no such table');
    return { warning: unreachableWarning(table)?.replaceAll(name, 't'), table };
  }

  it.each<[what: string, statements: (table: string) => string]>([
    ['a policy for everybody', (t) => `CREATE POLICY p ON ${t} USING (false)`],
    [
      'a policy for the role',
      (t) => `CREATE POLICY p ON ${t} TO ${reader}, realtime_subscriber USING (id = 1)`,
    ],
    ['no row level security', (t) => `ALTER TABLE ${t} DISABLE ROW LEVEL SECURITY`],
    [
      'SELECT on one column',
      (t) => `CREATE POLICY p ON ${t} USING (true); REVOKE SELECT ON ${t} FROM realtime_subscriber;
        GRANT SELECT (id) ON ${t} TO realtime_subscriber`,
    ],
  ])('%s is enough', async (_what, statements) => {
    expect((await warningFor(statements)).warning).toBeUndefined();
  });

  it('policies that are not applied do not matter, privileges do', async () => {
    expect((await warningFor(() => '', { enableRls: false })).warning).toBeUndefined();
    const revoked = (t: string) => `REVOKE SELECT ON ${t} FROM realtime_subscriber`;
    expect((await warningFor(revoked, { enableRls: false })).warning).toMatch(
      /the role realtime_subscriber has no SELECT privilege on public\.t\. Run GRANT SELECT ON TABLE public\.t TO realtime_subscriber;$/,
    );
  });

  it('policies for writing and restrictive ones let nothing pass', async () => {
    const { warning } = await warningFor(
      (t) => `CREATE POLICY w ON ${t} FOR INSERT WITH CHECK (true);
        CREATE POLICY r ON ${t} AS RESTRICTIVE USING (id > 0)`,
    );
    expect(warning).toContain(
      'has no permissive policy for SELECT; its policies are r (restrictive, TO PUBLIC).',
    );
    expect(warning).toContain(
      'CREATE POLICY realtime_select ON public.t FOR SELECT TO realtime_subscriber USING (…);',
    );
  });

  it('a role that does not inherit a policy’s role does not get its policies', async () => {
    const policy = (t: string) => `CREATE POLICY p ON ${t} TO ${reader} USING (id = 1)`;
    const { warning, table } = await warningFor(policy, { dbRoles: [heir] });
    expect(warning).toContain(`applies to ${heir}`);
    expect(warning).toContain(`REALTIME_DB_ROLES=${heir},${reader}.`);
    expect(roleObstacles(table, heir)[0]).toContain(`applies to ${heir}; its policies are p (TO ${reader}).`);
    const listed = await warningFor(policy, { dbRoles: [heir, reader] });
    expect(listed.warning).toBeUndefined();
    expect(roleObstacles(listed.table, reader)).toEqual([]);
    expect(roleObstacles(listed.table, heir)[1]).toBe(
      `Users of another database role can see rows: ${reader}.`,
    );
  });

  it('a role that bypasses policies is to be removed from the setting, and never altered', async () => {
    const [login] = await sql<{ name: string }>(test.url, 'SELECT current_user::text AS name');
    const superuser = login?.name ?? '';
    const { table, warning } = await warningFor(() => '', { dbRoles: [superuser] });
    expect(roleObstacles(table, superuser).at(-1)).toBe(`Remove ${superuser} from REALTIME_DB_ROLES.`);
    expect(warning).toContain(`the role ${superuser} is a superuser or has BYPASSRLS`);
    expect(warning).not.toContain('ALTER ROLE');
  });

  it('nobody is advised to evaluate users as the owner, to whom policies do not apply', async () => {
    const { warning } = await warningFor(
      (t) => `ALTER TABLE ${t} OWNER TO ${owner}; CREATE POLICY p ON ${t} TO ${owner} USING (id = 1)`,
    );
    expect(warning).not.toContain('REALTIME_DB_ROLES');
    expect(warning).toContain(`ALTER POLICY p ON public.t TO ${owner}, realtime_subscriber;`);
  });

  it('advises to widen one permissive policy, one with a condition first, with every restrictive one', async () => {
    const { warning } = await warningFor(
      (t) => `CREATE POLICY a_all ON ${t} TO ${reader} USING (true);
        CREATE POLICY own ON ${t} TO ${reader} USING (id = 1);
        CREATE POLICY r_others ON ${t} AS RESTRICTIVE TO ${heir} USING (id > 0);
        CREATE POLICY r_public ON ${t} AS RESTRICTIVE USING (id > 0)`,
    );
    expect([...(warning ?? '').matchAll(/ALTER POLICY[^;]*;/g)].map(String)).toEqual([
      `ALTER POLICY own ON public.t TO ${reader}, realtime_subscriber;`,
      `ALTER POLICY r_others ON public.t TO ${heir}, realtime_subscriber;`,
    ]);
  });
});
