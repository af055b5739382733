import type { Sql } from '../../../postgres/sql/sql.js';
import type { ColumnFacts, TableFacts } from '../../model/table-facts.js';
import type { Compilation } from '../compiling/compiled-expression.js';
import { familySql } from '../compiling/typed-values.js';
import { fingerprintSql } from './catalog-fingerprint.js';
import { compileExpression, type MembershipTables } from './compile-expression.js';
import { type CompiledPrivileges, readPrivileges } from './privilege-reader.js';

/** What is known of one table: as of one state of the catalog, which the fingerprint names. */
export interface KnownTable {
  readonly facts: TableFacts;
  readonly fingerprint: string;
  readonly privileges: Map<string, Promise<CompiledPrivileges>>;
  /** By their SQL. */
  readonly conditions: Map<string, Promise<Compilation>>;
  /** The tables that compiled policies look into, by oid, and what their fingerprints were. */
  readonly memberships: Map<number, string>;
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
  readonly #membershipTables = new Set<number>();
  readonly #isStreamed: () => string;

  /**
   * `applyPolicies` false: row level security is left out of the rights. `isStreamed`: SQL for whether all changes of the
   * table `c` are told by the stream.
   */
  constructor(sql: Sql, applyPolicies: boolean, isStreamed: () => string) {
    this.#sql = sql;
    this.#applyPolicies = applyPolicies;
    this.#isStreamed = isStreamed;
  }

  /** The tables whose changes must be heard of, since what was read from them is relied on. */
  get membershipTables(): ReadonlySet<number> {
    return this.#membershipTables;
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

  privileges(facts: TableFacts, role: string): Promise<CompiledPrivileges> {
    const { privileges } = this.of(facts);
    let compiled = privileges.get(role);
    if (compiled === undefined) {
      compiled = this.#readPrivileges(facts, role);
      privileges.set(role, compiled);
      compiled.catch(() => privileges.delete(role));
    }
    return compiled;
  }

  /** Whether a condition is evaluated in process. */
  condition(facts: TableFacts, sql: string): Promise<Compilation> {
    const { conditions } = this.of(facts);
    let compiled = conditions.get(sql);
    if (compiled === undefined) {
      compiled = compileExpression(this.#sql, facts, sql, NO_TABLES);
      conditions.set(sql, compiled);
      compiled.catch(() => conditions.delete(sql));
    }
    return compiled;
  }

  forget(oid: number): void {
    this.#tables.delete(oid);
  }

  /** Another table is streamed, or no more. */
  forgetAll(): void {
    this.#tables.clear();
  }

  /** Forgets every table (of these; missing: of all) whose catalog entries have changed. False: some have. */
  async check(oids: readonly number[] = [...this.#tables.keys()]): Promise<boolean> {
    const dependents = new Map<number, KnownTable[]>();
    for (const oid of oids) {
      const known = await this.#tables.get(oid);
      for (const dependent of known?.memberships.keys() ?? [])
        dependents.set(dependent, [
          ...(dependents.get(dependent) ?? []),
          ...(known === undefined ? [] : [known]),
        ]);
    }
    const asked = [...new Set([...oids, ...dependents.keys()])];
    if (asked.length === 0) return true;
    const rows = await this.#sql.query<{ oid: number; fingerprint: string }>(
      `SELECT given.oid::int8::float8 AS oid, ${fingerprintSql('given.oid')} AS fingerprint FROM unnest($1::oid[]) AS given(oid)`,
      [asked],
    );
    let isSame = true;
    for (const { oid, fingerprint } of rows) {
      for (const { facts, memberships } of dependents.get(oid) ?? []) {
        if (memberships.get(oid) === fingerprint) continue;
        this.#tables.delete(facts.oid);
        isSame = false;
      }
      const known = await this.#tables.get(oid);
      if (known?.fingerprint === fingerprint || !oids.includes(oid)) continue;
      this.#tables.delete(oid);
      isSame = false;
    }
    return isSame;
  }

  async #readPrivileges(facts: TableFacts, role: string): Promise<CompiledPrivileges> {
    const { memberships } = this.of(facts);
    const dependents: MembershipTables = async (schema, name) => {
      const dependent = await this.#membershipTable(schema, name, role);
      if (typeof dependent === 'string') return dependent;
      const { facts: own, fingerprint } = dependent.known;
      memberships.set(own.oid, fingerprint);
      return { oid: own.oid, columns: own.columns, isOpen: dependent.isOpen };
    };
    const privileges = await readPrivileges(this.#sql, facts, role, this.#applyPolicies, dependents);
    if ('compiled' in privileges.policyCompilation)
      for (const { oid } of privileges.policyCompilation.compiled.memberships)
        this.#membershipTables.add(oid);
    return privileges;
  }

  /** A table that memberships can be read from, or why not. What of it a role sees must depend on its rows alone. */
  async #membershipTable(
    schema: string,
    name: string,
    role: string,
  ): Promise<{ readonly known: KnownTable; readonly isOpen: boolean } | string> {
    const [row] = await this.#sql.query<{ oid: number; plain: boolean; streamed: boolean }>(
      `SELECT c.oid::int8::float8 AS oid,
         c.relkind = 'r' AND c.relpersistence = 'p' AND NOT c.relispartition
           AND NOT EXISTS (SELECT FROM pg_catalog.pg_inherits i WHERE c.oid IN (i.inhparent, i.inhrelid)) AS plain,
         ${this.#isStreamed()} AS streamed
       FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
       WHERE n.nspname = $1 AND c.relname = $2`,
      [schema, name],
    );
    if (row?.plain !== true) return 'is no table of its own';
    if (!row.streamed) return 'is not set up for row changes';
    const known = await this.#read(row.oid);
    if (known === undefined) return 'is no table of its own';
    const privileges = await readPrivileges(this.#sql, known.facts, role, this.#applyPolicies, NO_TABLES);
    if (!privileges.canSelect || privileges.rows === 'none') return 'the role may not read';
    if (privileges.rows === 'filtered' && 'reason' in privileges.policyCompilation)
      return 'has policies that only PostgreSQL can judge';
    return { known, isOpen: privileges.rows === 'all' };
  }

  async #read(oid: number): Promise<KnownTable | undefined> {
    const [row] = await this.#sql.query<TableRow>(FACTS, [oid]);
    if (row === undefined) return undefined;
    const { fingerprint, ...facts } = row;
    const known = {
      facts,
      fingerprint,
      privileges: new Map(),
      conditions: new Map(),
      memberships: new Map(),
    };
    this.#known.set(facts, known);
    return known;
  }
}

const NO_TABLES: MembershipTables = async () => 'is another table';

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
