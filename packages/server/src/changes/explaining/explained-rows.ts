import { ProtocolError } from '@goforward/realtime-protocol';
import { memberTexts } from '../../lib/json-members.js';
import type { JsonText } from '../../lib/json-text.js';
import type { StatementOptions } from '../../postgres/connection/statement-options.js';
import { qualified, quoted } from '../../postgres/sql/identifier.js';
import { recordFields } from '../../postgres/sql/record-text.js';
import type { Sql } from '../../postgres/sql/sql.js';
import type { RowImage } from '../model/row-image.js';
import type { TableFacts } from '../model/table-facts.js';
import type { Viewer } from '../model/viewer.js';
import type { Policy } from '../visibility/role-privileges.js';
import { evaluateEach, type PolicyResult } from './policy-evaluation.js';

/** Runs statements, which are cancelled when the signal of their options aborts. */
export interface ExplainerDatabase {
  query<Row extends object>(
    sql: string,
    values: readonly unknown[],
    options: StatementOptions,
  ): Promise<Row[]>;
  transaction<T>(work: (sql: Sql) => Promise<T>, options: StatementOptions): Promise<T>;
}

/** Reads the rows that an explanation is about, and evaluates policies on them one by one. */
export class ExplainedRows {
  readonly #database: ExplainerDatabase;
  readonly #options: StatementOptions;

  /** `options`: those of all statements. */
  constructor(database: ExplainerDatabase, options: StatementOptions) {
    this.#database = database;
    this.#options = options;
  }

  /**
   * Reads the row with this key, or makes one of these values; undefined if no row has the key. Throws
   * DB_SUBSCRIPTION_FAILED.
   */
  async find(
    facts: TableFacts,
    { key, row }: { key?: JsonText; row?: JsonText },
  ): Promise<RowImage | undefined> {
    const [found] =
      row === undefined
        ? await this.#withKey(facts, [...memberTexts(key?.text ?? '{}')])
        : await this.#record(
            facts,
            `SELECT r::text AS record FROM pg_catalog.jsonb_populate_record(NULL::${qualified(facts)}, $1::jsonb) AS r`,
            [row.text],
          );
    return found === undefined ? undefined : recordFields(found.record);
  }

  /** Evaluates each policy for a user. */
  async policies(
    facts: TableFacts,
    policies: readonly Policy[],
    viewer: Viewer,
    image: RowImage,
  ): Promise<PolicyResult[]> {
    if (policies.length === 0) return [];
    return this.#database.transaction(
      (sql) => evaluateEach(sql, facts, policies, viewer, image),
      this.#options,
    );
  }

  async #withKey(
    facts: TableFacts,
    given: readonly (readonly [name: string, value: JsonText])[],
  ): Promise<{ record: string }[]> {
    if (given.length === 0) throw failed('A key, a row or a cursor is needed');
    const where = given.map(([name], n) => {
      const column = facts.columns.find((known) => known.name === name);
      if (column === undefined) throw failed(`Column '${name}' does not exist in table '${facts.name}'`);
      return `t.${quoted(name)} = $${n + 1}::text::${column.type}`;
    });
    return this.#record(
      facts,
      `SELECT t::text AS record FROM ${qualified(facts)} AS t WHERE ${where.join(' AND ')} LIMIT 1`,
      given.map(([, { text }]) => (text.startsWith('"') ? String(JSON.parse(text)) : text)),
    );
  }

  async #record(facts: TableFacts, text: string, values: string[]): Promise<{ record: string }[]> {
    try {
      return await this.#database.query<{ record: string }>(text, values, this.#options);
    } catch (error) {
      if (error instanceof ProtocolError || this.#options.signal?.aborted) throw error;
      throw failed(`The values are not a row of '${facts.name}'`);
    }
  }
}

function failed(details: string): ProtocolError {
  return new ProtocolError('DB_SUBSCRIPTION_FAILED', { details });
}
