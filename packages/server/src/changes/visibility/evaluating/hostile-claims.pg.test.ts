import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { connectedDatabase } from '../../../../../../tests/support/connected-database.js';
import { postgresVersions } from '../../../../../../tests/support/matrix.js';
import {
  createEncodedDatabase,
  createTestDatabase,
  sql,
  type TestDatabase,
} from '../../../../../../tests/support/postgres-database.js';
import type { Identity } from '../../../auth/identity.js';
import { isStorableText } from '../../../lib/storable-text.js';
import type { Database } from '../../../postgres/connection/database.js';
import { DatabaseTextReader } from '../../../postgres/sql/read-database-text.js';
import { DEFAULT_DB_ROLE, type Viewer, Viewers } from '../../model/viewer.js';
import { StaleFacts } from '../stale-facts.js';
import { PostgresAuthorizer } from './postgres-authorizer.js';

const SUB = `current_setting('request.jwt.claims', true)::jsonb ->> 'sub'`;
const NAME = `current_setting('request.jwt.claims', true)::json ->> 'name'`;
const POLICIES = {
  compiled_by_claim: `owner = (${SUB})`,
  compiled_by_user: `owner = current_setting('app.current_user_id') AND coalesce(${NAME}, '') <> 'x'`,
  compiled_by_setting: `owner = current_setting('app.owner')`,
  evaluated_by_claim: `lower(owner) = lower(${SUB}) AND coalesce(${NAME}, '') <> 'x'`,
  evaluated_by_user: `lower(owner) = lower(current_setting('app.current_user_id'))`,
};
const SETTINGS = [
  { name: 'app.owner', claim: 'sub' },
  { name: 'app.everything', claim: 'inner' },
];

const identity = (userId: string, claims: Record<string, unknown>): Identity => ({
  userId,
  limitedAs: userId,
  roles: ['user'],
  expiresAt: null,
  claims: { sub: userId, ...claims },
});
const VICTIMS = [identity('ada', {}), identity('josé', { name: 'José', tags: ['é'] })];

/** Characters of all kinds, above all those that some encoding does not have. */
const character = fc
  .oneof(
    fc.constantFrom(0, 1, 0x22, 0x5c, 0x7f, 0xe9, 0x80, 0x141, 0x20ac, 0x65e5, 0xfffe, 0xffff, 0x1f600),
    fc.integer({ min: 0xd800, max: 0xdfff }),
    fc.nat(0x10ffff),
  )
  .map((code) => String.fromCodePoint(code));
const text = fc.string({ unit: character, maxLength: 6 });
const key = fc.oneof(text, fc.constantFrom('sub', 'name', 'inner', '__proto__', 'constructor', 'exp', 'jti'));
/** Claims as a token's JSON gives them: `__proto__` is a key like any other. */
const claims = fc
  .dictionary(
    key,
    fc.oneof(
      fc.jsonValue({ stringUnit: character, maxDepth: 4 }),
      fc.dictionary(key, text),
      fc.constantFrom(1e308, -5e-324, 1e21, '[', 'x'.repeat(5_000), deep(62)),
    ),
  )
  .map((token) => JSON.parse(JSON.stringify(token)) as Record<string, unknown>);
const hostile = fc
  .tuple(
    text.filter((id) => id !== '' && isStorableText(id)),
    claims,
  )
  .map(([userId, token]) => identity(userId, token));

describe.each(postgresVersions('oldest'))('on the %s PostgreSQL', (version) => {
  describe.each(['UTF8', 'LATIN1', 'EUC_JP', 'SQL_ASCII'])('in a database in %s', (encoding) => {
    let database: TestDatabase;
    let connected: Database;
    let authorizer: PostgresAuthorizer;
    let viewers: Viewers;

    beforeAll(async () => {
      database = await (encoding === 'UTF8'
        ? createTestDatabase(version)
        : createEncodedDatabase(encoding, version));
      connected = await connectedDatabase(database.url);
      authorizer = new PostgresAuthorizer({ database: connected, enableRls: true, clock: () => 0 });
      viewers = new Viewers([], SETTINGS);
      viewers.use(await new DatabaseTextReader().read(connected));
      for (const [name, policy] of Object.entries(POLICIES))
        await sql(
          database.url,
          `CREATE TABLE ${name} (id int PRIMARY KEY, owner text); GRANT SELECT ON ${name} TO ${DEFAULT_DB_ROLE};
           ALTER TABLE ${name} ENABLE ROW LEVEL SECURITY; CREATE POLICY own ON ${name} USING (${policy})`,
        );
    });
    afterAll(async () => {
      authorizer.stop();
      await connected.stop();
      await database.drop();
    });

    /** Retries when other tests have changed roles, which belong to the whole PostgreSQL. */
    async function evaluated(name: string, users: readonly Viewer[]) {
      const [row] = await sql<{ oid: number }>(database.url, `SELECT '${name}'::regclass::oid::int AS oid`);
      for (;;) {
        try {
          const facts = await authorizer.facts(row?.oid ?? 0);
          if (facts === undefined) throw new Error('no such table');
          const parameters = name.startsWith('compiled')
            ? await authorizer.evaluateParameters(facts, DEFAULT_DB_ROLE, users, [])
            : undefined;
          const rows = [['1', 'ada'], ...(encoding === 'EUC_JP' ? [] : [['2', 'josé']])];
          const requests = users.map((viewer) => ({ viewer, rows: rows.map((_, n) => n) }));
          return { parameters, results: await authorizer.evaluatePolicies(facts, rows, requests, []) };
        } catch (error) {
          if (!(error instanceof StaleFacts)) throw error;
        }
      }
    }

    test.each(Object.keys(POLICIES))('no claims of others change what a viewer sees (%s)', async (name) => {
      const hasRows = encoding === 'EUC_JP' ? 1 : 2;
      await fc.assert(
        fc.asyncProperty(fc.array(hostile, { maxLength: 6 }), async (others) => {
          const users = [...others, ...VICTIMS].map((user) => viewers.of(user));
          const { parameters, results } = await evaluated(name, users);
          for (const [n, user] of users.entries()) {
            // Nobody depends on a repeated call: what the database takes does not fail.
            expect(results[n]?.error === undefined).toBe(user.isUnstorable === undefined);
            if (parameters !== undefined)
              expect(parameters[n] === undefined).toBe(user.isUnstorable === true);
          }
          const seen = results.slice(-2).map(({ visible }) => [...visible]);
          expect(seen).toEqual([[0], [1]].slice(0, hasRows).concat(hasRows === 1 ? [[]] : []));
        }),
        { numRuns: 25 },
      );
    });
  });
});

function deep(levels: number): unknown {
  return JSON.parse('['.repeat(levels) + ']'.repeat(levels));
}
