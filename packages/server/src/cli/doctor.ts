import { findPolicyProblems } from '../changes/explaining/policy-problems.js';
import { type RoleTier, tiersOf } from '../changes/explaining/tiers.js';
import { PostgresAuthorizer } from '../changes/visibility/evaluating/postgres-authorizer.js';
import type { Settings } from '../config/settings-table.js';
import { monotonicClock } from '../lib/clock.js';
import type { Database } from '../postgres/connection/database.js';
import { ensureSubscriberRole } from '../postgres/migrations/subscriber-role.js';
import {
  findingsOf,
  logicalDecodingObstacle,
  policyErrorFinding,
  slowPolicyFinding,
  triggerFindingsOf,
} from '../postgres/preflight/preflight.js';
import { preflightFacts } from '../postgres/preflight/preflight-facts.js';
import type { Finding } from '../postgres/source/change-source.js';
import type { Command } from './command.js';
import { parseArguments } from './parse-arguments.js';
import { withDatabase } from './with-database.js';

/** `doctor`: checks PostgreSQL for what prevents row changes, and prints how to fix it. */
export const doctor: Command = {
  name: 'doctor',
  summary: 'Check PostgreSQL for problems with row changes, and print how to fix them',
  usage: '[--<setting> <value>]...',
  help: () => `Connects to PostgreSQL as the server does: to DATABASE_URL, or to the embedded PostgreSQL of the data folder
while that runs. Prints each problem with its number and the SQL or setting that fixes it, and how rows of each
enabled table are evaluated. Creates what the server creates at its start: its schema, and the role realtime_subscriber.

Takes the flags of start. Exits 0 without problems or with warnings only, 1 with errors, 2 for invalid arguments.`,
  run: async (args) => {
    const { settings } = parseArguments(args).loaded;
    const { findings, source, reason, tables } = await inspectDatabase(settings);
    if (source === 'trigger')
      process.stdout.write(
        `Row changes are read by triggers: ${reason ?? 'REALTIME_CHANGE_SOURCE is trigger'}.\n`,
      );
    for (const { code, severity, title, advice } of findings)
      process.stdout.write(`${code} ${severity}: ${title}\n  ${advice}\n`);
    for (const { table, role, tier, reason: why } of tables)
      process.stdout.write(`${table} for ${role}: ${tier}, ${why}.\n`);
    if (findings.length === 0) process.stdout.write('No problems found.\n');
    return findings.some(({ severity }) => severity === 'error') ? 1 : 0;
  },
};

interface Inspection {
  readonly findings: readonly Finding[];
  readonly source: 'logical' | 'trigger';
  /** Why `auto` chose triggers. */
  readonly reason?: string | undefined;
  /** How rows of each enabled table are evaluated. */
  readonly tables: readonly (RoleTier & { readonly table: string })[];
}

function inspectDatabase(settings: Settings): Promise<Inspection> {
  return withDatabase(settings, async (database) => {
    await ensureSubscriberRole(database);
    const names = {
      slot: settings.replicationSlot,
      publication: settings.publicationName,
      schema: database.schema,
      dbRoles: settings.dbRoles,
      enableRls: settings.enableRls,
    };
    const facts = await preflightFacts(database, names);
    const authorizer = new PostgresAuthorizer({
      database,
      enableRls: settings.enableRls,
      clock: monotonicClock,
    });
    const tables = await tablesOf(database, authorizer, settings);
    const { failing, slow } = await findPolicyProblems(
      database,
      authorizer,
      facts.reachability,
      settings.claimSettings.map(({ name }) => name),
    );
    const found = [
      ...(failing.length === 0 ? [] : [policyErrorFinding(failing)]),
      ...(slow.length === 0 ? [] : [slowPolicyFinding(slow)]),
    ];
    const { changeSource } = settings;
    const reason = changeSource === 'auto' ? logicalDecodingObstacle(facts, names) : undefined;
    return changeSource === 'trigger' || reason !== undefined
      ? { source: 'trigger', reason, findings: [...triggerFindingsOf(facts, names), ...found], tables }
      : { source: 'logical', findings: [...findingsOf(facts, names), ...found], tables };
  });
}

async function tablesOf(
  database: Database,
  authorizer: PostgresAuthorizer,
  { dbRoles }: Settings,
): Promise<Inspection['tables']> {
  const [kept] = await database.query<{ is: boolean }>('SELECT to_regclass($1) IS NOT NULL AS is', [
    `${database.schema}.tables`,
  ]);
  if (kept?.is !== true) return [];
  const rows = await database.query<{ oid: number; name: string }>(
    `SELECT c.oid::int8::float8 AS oid, n.nspname || '.' || c.relname AS name
     FROM ${database.schema}.tables t JOIN pg_class c ON c.oid = t.oid JOIN pg_namespace n ON n.oid = c.relnamespace ORDER BY 2`,
  );
  const tables: (RoleTier & { readonly table: string })[] = [];
  for (const { oid, name } of rows)
    for (const tier of await tiersOf(authorizer, oid, dbRoles)) tables.push({ table: name, ...tier });
  return tables;
}
