import { ProtocolError } from '@goforward/realtime-protocol';
import { literal, qualified, quoted } from '../../postgres/sql/identifier.js';
import type { Sql } from '../../postgres/sql/sql.js';
import type { RowImage } from '../model/row-image.js';
import type { TableFacts } from '../model/table-facts.js';
import { settingsStatement, type Viewer } from '../model/viewer.js';
import { rowArrayLiteral } from '../values/row-array-literal.js';
import type { EvaluationError } from '../visibility/authorizer.js';
import type { Policy } from '../visibility/role-privileges.js';

/** A policy and its value for one row. */
export interface PolicyResult extends Policy {
  readonly result: 'true' | 'false' | 'null' | 'error';
  /** Missing unless the result is an error. */
  readonly error?: EvaluationError;
}

const TIMEOUT_MS = 1_000;
const STATEMENT = 'goforward_policy';

/**
 * Evaluates policies one by one for a viewer and a row, within a transaction. Effects of their functions are
 * rolled back. `observe` gets how long each took.
 */
export async function evaluateEach(
  sql: Sql,
  facts: TableFacts,
  policies: readonly Policy[],
  viewer: Viewer,
  image: RowImage,
  observe: (policy: Policy, ms: number) => void = () => undefined,
): Promise<PolicyResult[]> {
  await sql.query(...settingsStatement(viewer));
  await sql.query(`SET LOCAL statement_timeout = ${TIMEOUT_MS}`);
  // Functions that policies call may rely on it, as in a SELECT.
  await sql.query('SET LOCAL search_path TO DEFAULT');
  const results: PolicyResult[] = [];
  for (const policy of policies)
    results.push({
      ...policy,
      ...(await evaluate(sql, facts, policy, viewer, image, (ms) => observe(policy, ms))),
    });
  return results;
}

async function evaluate(
  sql: Sql,
  facts: TableFacts,
  { expression }: Policy,
  { role }: Viewer,
  image: RowImage,
  observe: (ms: number) => void,
): Promise<Pick<PolicyResult, 'result' | 'error'>> {
  let isPrepared = false;
  let begun: number | undefined;
  await sql.query('SAVEPOINT policy');
  try {
    // Names are looked up as our login: a policy may call functions of schemas that the role may not use.
    await sql.query(
      `PREPARE ${STATEMENT} (text) AS SELECT (${expression}) AS holds FROM ${rowVersionSql(facts)}`,
    );
    isPrepared = true;
    await sql.query(`SET LOCAL ROLE ${quoted(role)}`);
    begun = performance.now();
    const [row] = await sql.query<{ holds: boolean | null }>(
      `EXECUTE ${STATEMENT} (${literal(rowArrayLiteral([image]))})`,
    );
    return { result: row?.holds === true ? 'true' : row?.holds === false ? 'false' : 'null' };
  } catch (error) {
    return { result: 'error', error: evaluationErrorOf(error) };
  } finally {
    if (begun !== undefined) observe(performance.now() - begun);
    await sql.query('ROLLBACK TO policy');
    if (isPrepared) await sql.query(`DEALLOCATE ${STATEMENT}`);
  }
}

/** What PostgreSQL says; throws what is no error of the statement. */
function evaluationErrorOf(error: unknown): EvaluationError {
  if (!(error instanceof Error) || error instanceof ProtocolError || !('code' in error)) throw error;
  return { sqlstate: String(error.code), message: error.message };
}

/**
 * The row version in `$1`, an array of one, under the table's name; the WAL does not carry generated columns:
 * they are computed.
 */
export function rowVersionSql(facts: TableFacts): string {
  const name = quoted(facts.name);
  const version = `pg_catalog.unnest($1::${qualified(facts)}[]) AS ${name}`;
  if (facts.columns.every(({ generated }) => generated === null)) return version;
  const columns = facts.columns.map((column) =>
    column.generated === null ? quoted(column.name) : `(${column.generated}) AS ${quoted(column.name)}`,
  );
  return `(SELECT ${columns.join(', ')} FROM ${version}) AS ${name}`;
}
