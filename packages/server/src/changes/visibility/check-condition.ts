import type { StatementOptions } from '../../postgres/connection/statement-options.js';
import { quoted } from '../../postgres/sql/identifier.js';
import type { Sql } from '../../postgres/sql/sql.js';
import { refusal } from '../expressions/condition-refusal.js';
import { loadParser } from '../expressions/parse-expression.js';
import type { TableFacts } from '../model/table-facts.js';
import type { Condition } from './authorizer.js';
import { parseCondition } from './parse-condition.js';

/** Runs statements in a transaction of their own. */
export interface TransactionRunner {
  transaction<T>(work: (sql: Sql) => Promise<T>, options: StatementOptions): Promise<T>;
}

/** The time of a LIKE grows with the length of its pattern, for each row. */
const MAX_PATTERN_BYTES = 1_024;
/** After this a statement is cancelled from here, in ms: planning a condition may not be interruptible. */
const STATEMENT_LIMIT_MS = 5_000;
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
  const { patterns, ...condition } = parseCondition(text, table.columns);
  const name = `${quoted(table.schema)}.${quoted(table.name)}`;
  try {
    const check = async (sql: Sql) => {
      const [row] = await sql.query<{ hidden: string[] }>(
        `SELECT coalesce(json_agg(name), '[]') AS hidden FROM unnest($3::text[]) AS named(name)
         WHERE NOT pg_catalog.has_column_privilege($1::name, $2::oid, name, 'SELECT')`,
        [role, table.oid, condition.columns],
      );
      const [hidden] = row?.hidden ?? [];
      if (hidden !== undefined) throw refusal(`permission denied for column ${hidden}`);
      await sql.query(`SET LOCAL ROLE ${quoted(role)}`);
      await sql.query(`SET LOCAL statement_timeout = '1s'`);
      await sql.query('SET LOCAL search_path TO DEFAULT');
      await sql.query(
        `EXPLAIN SELECT FROM pg_catalog.jsonb_populate_recordset(NULL::${name}, '[]') AS ${quoted(table.name)} WHERE ${condition.sql}`,
      );
      if (patterns.length > 0) await requireShortPatterns(sql, patterns);
    };
    await database.transaction(check, {
      limitMs: STATEMENT_LIMIT_MS,
      ...(signal === undefined ? {} : { signal }),
    });
  } catch (error) {
    throw asConditionError(error);
  }
  return condition;
}

/** A pattern can be shorter than the expression that gives it, or longer: PostgreSQL evaluates it. */
async function requireShortPatterns(sql: Sql, patterns: readonly string[]): Promise<void> {
  const [row] = await sql.query<{ longest: number | null }>(
    `SELECT pg_catalog.max(pg_catalog.octet_length(pattern)) AS longest
     FROM pg_catalog.unnest(${patterns.join(' OPERATOR(pg_catalog.||) ')}) AS patterns(pattern)`,
  );
  if ((row?.longest ?? 0) > MAX_PATTERN_BYTES)
    throw refusal(`The condition has a LIKE pattern of more than ${MAX_PATTERN_BYTES} bytes`);
}

/** Converts a PostgreSQL error that the condition's author can fix to a refusal. Returns any other error as it is. */
function asConditionError(error: unknown): unknown {
  const isAuthorError =
    error instanceof Error && 'severity' in error && 'code' in error && AUTHOR_ERROR.test(String(error.code));
  return isAuthorError ? refusal(error.message) : error;
}
