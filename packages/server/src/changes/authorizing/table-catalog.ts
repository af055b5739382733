import type { Sql } from '../../postgres/sql.js';
import type { Exactness } from '../compiling/compiled-expression.js';
import { familySql } from '../compiling/exact-values.js';
import type { ColumnFacts, TableFacts } from '../table-facts.js';
import { compileExact } from './exact-expression.js';
import { fingerprintSql } from './fingerprint.js';
import { type CompiledRights, readRights } from './role-rights.js';

/** What is known of one table: as of one state of the catalog, which the fingerprint names. */
export interface KnownTable {
  readonly facts: TableFacts;
  readonly fingerprint: string;
  readonly rights: Map<string, Promise<CompiledRights>>;
  /** By their SQL. */
  readonly conditions: Map<string, Promise<Exactness>>;
}

/** What `pg_class` and its kin say of a table; undefined where there is none. */
interface TableRow extends TableFacts {
  readonly fingerprint: string;
}

/** Tables, roles' rights to them and policies, read when they are first asked for and again when they have changed. */
export class TableCatalog {
  readonly #sql: Sql;
  readonly #applyPolicies: boolean;
  readonly #tables = new Map<number, Promise<KnownTable | undefined>>();
  readonly #known = new WeakMap<TableFacts, KnownTable>();

  /** `applyPolicies` false: row level security is left out of the rights. */
  constructor(sql: Sql, applyPolicies: boolean) {
    this.#sql = sql;
    this.#applyPolicies = applyPolicies;
  }

  table(oid: number): Promise<KnownTable | undefined> {
    let table = this.#tables.get(oid);
    if (table === undefined) {
      table = this.#read(oid);
      this.#tables.set(oid, table);
      table.catch(() => this.#tables.delete(oid));
    }
    return table;
  }

  /** What is known of the table that these facts are of. */
  of(facts: TableFacts): KnownTable {
    const known = this.#known.get(facts);
    if (known === undefined) throw new Error('facts that the catalog has not given');
    return known;
  }

  rights(facts: TableFacts, role: string): Promise<CompiledRights> {
    const { rights } = this.of(facts);
    let compiled = rights.get(role);
    if (compiled === undefined) {
      compiled = readRights(this.#sql, facts, role, this.#applyPolicies);
      rights.set(role, compiled);
      compiled.catch(() => rights.delete(role));
    }
    return compiled;
  }

  /** Whether a condition is evaluated in process. */
  condition(facts: TableFacts, sql: string): Promise<Exactness> {
    const { conditions } = this.of(facts);
    let compiled = conditions.get(sql);
    if (compiled === undefined) {
      compiled = compileExact(this.#sql, facts, sql);
      conditions.set(sql, compiled);
      compiled.catch(() => conditions.delete(sql));
    }
    return compiled;
  }

  forget(oid: number): void {
    this.#tables.delete(oid);
  }

  /** Forgets every table (of these; missing: of all) whose catalog entries have changed. False: some have. */
  async check(oids: readonly number[] = [...this.#tables.keys()]): Promise<boolean> {
    if (oids.length === 0) return true;
    const rows = await this.#sql.query<{ oid: number; fingerprint: string }>(
      `SELECT given.oid::int8::float8 AS oid, ${fingerprintSql('given.oid')} AS fingerprint FROM unnest($1::oid[]) AS given(oid)`,
      [oids],
    );
    let isSame = true;
    for (const { oid, fingerprint } of rows) {
      const known = await this.#tables.get(oid);
      if (known?.fingerprint === fingerprint) continue;
      this.#tables.delete(oid);
      isSame = false;
    }
    return isSame;
  }

  async #read(oid: number): Promise<KnownTable | undefined> {
    const [row] = await this.#sql.query<TableRow>(FACTS, [oid]);
    if (row === undefined) return undefined;
    const { fingerprint, ...facts } = row;
    const known = { facts, fingerprint, rights: new Map(), conditions: new Map() };
    this.#known.set(facts, known);
    return known;
  }
}

const COLUMN: Record<keyof ColumnFacts, string> = {
  name: 'a.attname',
  number: 'a.attnum',
  typeOid: 'a.atttypid::int8',
  type: 'pg_catalog.format_type(a.atttypid, a.atttypmod)',
  generated: `CASE WHEN a.attgenerated <> '' THEN pg_catalog.pg_get_expr(d.adbin, d.adrelid) END`,
  family: familySql('a.atttypid', 'a.attcollation'),
};

/** Names and expressions come out qualified, since the session's search path is empty. */
const FACTS = `
  WITH t AS (
    SELECT c.oid, n.nspname, c.relname, c.relkind, c.relreplident
    FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
    WHERE c.oid = $1 AND c.relkind IN ('r', 'p')
  ), keys AS (
    SELECT i.indisprimary, i.indisreplident, a.attname::text AS name, a.attnum
    FROM pg_catalog.pg_index i JOIN pg_catalog.pg_attribute a
      ON a.attrelid = i.indrelid AND a.attnum = ANY (i.indkey[0:i.indnkeyatts - 1])
    WHERE i.indrelid = $1
  ), columns AS (
    SELECT a.attname::text AS name, a.attnum, a.attgenerated,
      json_build_object(${Object.entries(COLUMN)
        .map(([key, expression]) => `'${key}', ${expression}`)
        .join(', ')}) AS facts
    FROM pg_catalog.pg_attribute a
    LEFT JOIN pg_catalog.pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
    WHERE a.attrelid = $1 AND a.attnum > 0 AND NOT a.attisdropped
  )
  SELECT t.oid::int8::float8 AS oid, t.nspname::text AS schema, t.relname::text AS name,
    CASE t.relkind WHEN 'p' THEN 'partitioned' ELSE 'table' END AS kind,
    t.relreplident::text AS identity,
    (SELECT coalesce(json_agg(facts ORDER BY attnum), '[]') FROM columns) AS columns,
    (SELECT coalesce(json_agg(name ORDER BY attnum), '[]') FROM keys WHERE indisprimary) AS "primaryKey",
    (SELECT coalesce(json_agg(name ORDER BY attnum), '[]') FROM (
       SELECT name, attnum FROM columns WHERE t.relreplident = 'f' AND attgenerated = ''
       UNION ALL SELECT name, attnum FROM keys
       WHERE t.relreplident = 'd' AND indisprimary OR t.relreplident = 'i' AND indisreplident
     ) identity) AS "identityColumns",
    ${fingerprintSql('t.oid')} AS fingerprint
  FROM t`;
