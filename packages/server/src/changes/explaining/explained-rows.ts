import { ProtocolError } from '@goforward/realtime-protocol';
import { quoted } from '../../postgres/sql/identifier.js';
import { recordFields } from '../../postgres/sql/record-text.js';
import type { Sql } from '../../postgres/sql/sql.js';
import type { RowImage } from '../model/row-image.js';
import type { TableFacts } from '../model/table-facts.js';
import { settingsStatement, type Viewer } from '../model/viewer.js';
import { rowArrayLiteral } from '../values/row-literal.js';
import type { Policy } from '../visibility/role-privileges.js';

/** A policy, and what it comes to. */
export interface PolicyResult extends Policy {
  readonly result: 'true' | 'false' | 'null' | 'error';
}

type Database = Sql & { transaction<T>(work: (sql: Sql) => Promise<T>): Promise<T> };

/** Values by column. */
type Values = Readonly<Record<string, unknown>>;

const TIMEOUT_MS = 1_000;

/** The rows that are asked about, and what policies come to on them, one by one. */
export class ExplainedRows {
  readonly #database: Database;

  constructor(database: Database) {
    this.#database = database;
  }

  /** The row with these values, or of these; undefined: there is none. Throws DB_SUBSCRIPTION_FAILED. */
  async find(facts: TableFacts, { key, row }: { key?: Values; row?: Values }): Promise<RowImage | undefined> {
    const [found] =
      row === undefined
        ? await this.#withKey(facts, Object.entries(key ?? {}))
        : await this.#record(
            facts,
            `SELECT r::text AS record FROM pg_catalog.jsonb_populate_record(NULL::${nameOf(facts)}, $1::jsonb) AS r`,
            [JSON.stringify(row)],
          );
    return found === undefined ? undefined : recordFields(found.record);
  }

  /** What each policy comes to for a user. */
  async policies(
    facts: TableFacts,
    policies: readonly Policy[],
    viewer: Viewer,
    image: RowImage,
  ): Promise<PolicyResult[]> {
    if (policies.length === 0) return [];
    return this.#database.transaction(async (sql) => {
      await sql.query(...settingsStatement(viewer));
      await sql.query(`SET LOCAL statement_timeout = ${TIMEOUT_MS}`);
      await sql.query(`SET LOCAL ROLE ${quoted(viewer.role)}`);
      const results: PolicyResult[] = [];
      for (const policy of policies)
        results.push({ ...policy, result: await resultOf(sql, facts, policy, image) });
      return results;
    });
  }

  async #withKey(
    facts: TableFacts,
    given: readonly (readonly [name: string, value: unknown])[],
  ): Promise<{ record: string }[]> {
    if (given.length === 0) throw failed('A key, a row or a cursor is needed');
    const where = given.map(([name], n) => {
      const column = facts.columns.find((known) => known.name === name);
      if (column === undefined) throw failed(`Column '${name}' does not exist in table '${facts.name}'`);
      return `t.${quoted(name)} = $${n + 1}::text::${column.type}`;
    });
    return this.#record(
      facts,
      `SELECT t::text AS record FROM ${nameOf(facts)} AS t WHERE ${where.join(' AND ')} LIMIT 1`,
      given.map(([, value]) => String(value)),
    );
  }

  async #record(facts: TableFacts, text: string, values: string[]): Promise<{ record: string }[]> {
    try {
      return await this.#database.query<{ record: string }>(text, values);
    } catch (error) {
      if (error instanceof ProtocolError) throw error;
      throw failed(`This is no row of '${facts.name}'`);
    }
  }
}

async function resultOf(
  sql: Sql,
  facts: TableFacts,
  { expression }: Policy,
  image: RowImage,
): Promise<PolicyResult['result']> {
  await sql.query('SAVEPOINT policy');
  try {
    const [row] = await sql.query<{ holds: boolean | null }>(
      `SELECT (${expression}) AS holds FROM ${versionOf(facts)}`,
      [rowArrayLiteral([image])],
    );
    return row?.holds === true ? 'true' : row?.holds === false ? 'false' : 'null';
  } catch (error) {
    if (error instanceof ProtocolError) throw error;
    return 'error';
  } finally {
    await sql.query('ROLLBACK TO policy');
  }
}

/** The version in `$1` under the table's name. Generated columns, which the log does not carry, are what they would be. */
function versionOf(facts: TableFacts): string {
  const name = quoted(facts.name);
  const version = `pg_catalog.unnest($1::${nameOf(facts)}[]) AS ${name}`;
  if (facts.columns.every(({ generated }) => generated === null)) return version;
  const columns = facts.columns.map((column) =>
    column.generated === null ? quoted(column.name) : `(${column.generated}) AS ${quoted(column.name)}`,
  );
  return `(SELECT ${columns.join(', ')} FROM ${version}) AS ${name}`;
}

function nameOf({ schema, name }: TableFacts): string {
  return `${quoted(schema)}.${quoted(name)}`;
}

function failed(details: string): ProtocolError {
  return new ProtocolError('DB_SUBSCRIPTION_FAILED', { details });
}
