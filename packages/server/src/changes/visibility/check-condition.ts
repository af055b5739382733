import type { StatementOptions } from '../../postgres/connection/statement-options.js';
import { quoted } from '../../postgres/sql/identifier.js';
import type { Sql } from '../../postgres/sql/sql.js';
import { PRESENT_REFUSED, refusal } from '../expressions/condition-refusal.js';
import type { OperandType } from '../expressions/condition-rules.js';
import { loadParser } from '../expressions/parse-expression.js';
import type { TableFacts } from '../model/table-facts.js';
import type { Condition } from './authorizer.js';
import { type ParsedCondition, parseCondition } from './parse-condition.js';

/** Runs statements in a transaction of their own. */
export interface TransactionRunner {
  transaction<T>(work: (sql: Sql) => Promise<T>, options: StatementOptions): Promise<T>;
}

/** After this a statement is cancelled from here, in ms: planning a condition may not be interruptible. */
const STATEMENT_LIMIT_MS = 5_000;
/** PostgreSQL's error for a text that is no date or time. */
const INVALID_TIME = '22007';
/** SQLSTATE classes of errors that the condition's author can fix. Any other error is an internal one. */
const AUTHOR_ERROR = /^(?:0A|21|22|23|2B|42|54|57014)/;

/**
 * Parses a condition and has PostgreSQL check it, as the subscriber's role, over an image of a row and not over the
 * table: over the table the planner would run the casts of policies. Throws DB_SUBSCRIPTION_FAILED, with PostgreSQL's
 * message for its own errors, or the reason of `signal` when that aborts.
 */
export async function checkCondition(
  database: TransactionRunner,
  table: TableFacts,
  role: string,
  text: string,
  signal?: AbortSignal,
): Promise<Condition> {
  await loadParser();
  const condition = parseCondition(text, table.columns);
  try {
    await database.transaction((sql) => checkInPostgres(sql, table, role, condition), {
      limitMs: STATEMENT_LIMIT_MS,
      ...(signal === undefined ? {} : { signal }),
    });
  } catch (error) {
    throw asConditionError(error);
  }
  return { sql: condition.sql, columns: condition.columns };
}

async function checkInPostgres(
  sql: Sql,
  { schema, name, oid }: TableFacts,
  role: string,
  { sql: condition, columns, requirements, withoutPresent }: ParsedCondition,
): Promise<void> {
  const [row] = await sql.query<{ hidden: string[] }>(
    `SELECT coalesce(json_agg(name), '[]') AS hidden FROM unnest($3::text[]) AS named(name)
     WHERE NOT pg_catalog.has_column_privilege($1::name, $2::oid, name, 'SELECT')`,
    [role, oid, columns],
  );
  const [hidden] = row?.hidden ?? [];
  if (hidden !== undefined) throw refusal(`permission denied for column ${hidden}`);
  await sql.query(`SET LOCAL ROLE ${quoted(role)}`);
  await sql.query(`SET LOCAL statement_timeout = '1s'`);
  await sql.query('SET LOCAL search_path TO DEFAULT');
  const rows = `pg_catalog.jsonb_populate_recordset(NULL::${quoted(schema)}.${quoted(name)}, '[]') AS ${quoted(name)}`;
  await sql.query(`EXPLAIN SELECT FROM ${rows} WHERE ${condition}`);
  await requireTypes(sql, requirements, rows);
  for (const other of withoutPresent) await requireNoTime(sql, `EXPLAIN SELECT FROM ${rows} WHERE ${other}`);
}

/** Refuses the condition if no operand of a requirement has a type that it accepts. `rows`: where the columns come from. */
async function requireTypes(
  sql: Sql,
  requirements: ParsedCondition['requirements'],
  rows: string,
): Promise<void> {
  if (requirements.length === 0) return;
  // A sub-select without rows gives the type of its expression without evaluating it.
  const types = requirements.map(
    ({ operands }) =>
      `ARRAY[${operands.map((operand) => `pg_catalog.pg_typeof((SELECT ${operand} FROM ${rows} WHERE false))::oid`).join(', ')}]`,
  );
  const found = await sql.query<{ types: OperandType[] }>(
    `SELECT (
       SELECT pg_catalog.json_agg(pg_catalog.json_build_object('name', coalesce(below.typname, own.typname), 'category', own.typcategory))
       FROM pg_catalog.unnest(asked.oids) AS oid JOIN pg_catalog.pg_type own USING (oid)
       LEFT JOIN pg_catalog.pg_type below ON below.oid = own.typbasetype
     ) AS types FROM (VALUES ${types.map((oids, n) => `(${n}, ${oids})`).join(', ')}) AS asked(n, oids) ORDER BY n`,
  );
  for (const [n, { accepts, details }] of requirements.entries())
    if (found[n]?.types.some(accepts) !== true) throw refusal(details);
}

/** Refuses a condition whose literals are times only in the present. */
async function requireNoTime(sql: Sql, statement: string): Promise<void> {
  await sql.query('SAVEPOINT present');
  try {
    await sql.query(statement);
  } catch (error) {
    if (error instanceof Error && 'code' in error && error.code === INVALID_TIME)
      throw refusal(PRESENT_REFUSED);
    // Another type, such as an enum, has the literal and not its replacement.
    await sql.query('ROLLBACK TO present');
  }
}

/** Converts a PostgreSQL error that the condition's author can fix to a refusal. Returns any other error as it is. */
function asConditionError(error: unknown): unknown {
  const isAuthorError =
    error instanceof Error && 'severity' in error && 'code' in error && AUTHOR_ERROR.test(String(error.code));
  return isAuthorError ? refusal(error.message) : error;
}
