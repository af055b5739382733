import type { WalRelation } from '../../../postgres/source/change-source.js';
import { fingerprintSql } from '../../../postgres/sql/catalog-fingerprint.js';
import type { Sql } from '../../../postgres/sql/sql.js';
import { RowSnapshot } from '../../model/row-snapshot.js';
import type { ColumnFacts, TableFacts } from '../../model/table-facts.js';
import type { Compilation } from '../compiling/compiled-expression.js';
import { familySql } from '../compiling/type-families.js';
import { compileExpression, type MembershipTables } from './compile-expression.js';
import { CompiledConditions } from './compiled-conditions.js';
import { type CompiledPrivileges, readPrivileges } from './privilege-reader.js';

/**
 * The facts about one table, its privileges and conditions, in the state of the catalog that the fingerprint
 * identifies.
 */
export interface KnownTable {
  readonly facts: TableFacts;
  readonly fingerprint: string;
  readonly privileges: Map<string, Promise<CompiledPrivileges>>;
  readonly conditions: CompiledConditions;
  /** The fingerprints of the tables that compiled policies read, by oid. */
  readonly memberships: Map<number, string>;
  /** The last snapshot in which the catalog is known to have been in this state. */
  asOf: RowSnapshot;
  /**
   * Transactions below this xid may have been running when the state was read. They can be in the WAL already, and the
   * stream does not describe the table again because of them. Undefined once they have all ended and the state is the same.
   */
  runningBelow: bigint | undefined;
}

/** A row of FACTS. */
interface TableRow extends TableFacts {
  readonly fingerprint: string;
  readonly snapshot: string;
  readonly xid: string;
}

/**
 * Caches facts about tables, roles' privileges on them and policies; reads them again when the catalog has
 * changed.
 */
export class TableCatalog {
  readonly #sql: Sql;
  readonly #applyPolicies: boolean;
  readonly #tables = new Map<number, Promise<KnownTable | undefined>>();
  /** The tables that were read and not forgotten since. */
  readonly #current = new Map<number, KnownTable>();
  readonly #known = new WeakMap<TableFacts, KnownTable>();
  readonly #membershipTables = new Set<number>();
  readonly #isStreamed: () => string;
  readonly #described = new WeakSet<WalRelation>();
  /** What PostgreSQL has answered, of all that was asked. */
  readonly #answered = new WeakSet<Promise<unknown>>();

  /**
   * `applyPolicies` false: row level security is not part of the privileges. `isStreamed`: SQL for whether
   * the stream has all changes of the table `c`.
   */
  constructor(sql: Sql, applyPolicies: boolean, isStreamed: () => string) {
    this.#sql = sql;
    this.#applyPolicies = applyPolicies;
    this.#isStreamed = isStreamed;
  }

  /** The tables that memberships were read from, whose changes must therefore be streamed. */
  get membershipTables(): ReadonlySet<number> {
    return this.#membershipTables;
  }

  table(oid: number): Promise<KnownTable | undefined> {
    let table = this.#tables.get(oid);
    if (table === undefined) {
      const reading = this.#read(oid).then((known) => {
        if (known !== undefined && this.#tables.get(oid) === reading) this.#current.set(oid, known);
        return known;
      });
      table = reading;
      this.#tables.set(oid, table);
      this.#noteWhenRead(table);
      table.catch(() => this.forget(oid));
    }
    return table;
  }

  /** Whether `table` asks PostgreSQL nothing. */
  hasTable(oid: number): boolean {
    return this.#isRead(this.#tables.get(oid));
  }

  /** Forgets a table when the stream describes it in a new relation. */
  described(relation: WalRelation): void {
    if (this.#described.has(relation)) return;
    this.#described.add(relation);
    this.forget(relation.oid);
  }

  /** Whether these facts have not been forgotten. */
  isCurrent(facts: TableFacts): boolean {
    return this.#current.get(facts.oid)?.facts === facts;
  }

  /**
   * Whether the stream would have told if the facts or privileges had changed, and the transactions `xids` have not changed
   * them either. It does not tell of the policies of a partitioned table.
   */
  isCertain(facts: TableFacts, xids: readonly number[]): boolean {
    const { asOf, runningBelow } = this.known(facts);
    return facts.kind !== 'partitioned' && runningBelow === undefined && xids.every((xid) => asOf.sees(xid));
  }

  /** The table that these facts belong to. */
  known(facts: TableFacts): KnownTable {
    const known = this.#known.get(facts);
    if (known === undefined) throw new Error('the facts are not of this catalog');
    return known;
  }

  privileges(facts: TableFacts, role: string): Promise<CompiledPrivileges> {
    const { privileges } = this.known(facts);
    let compiled = privileges.get(role);
    if (compiled === undefined) {
      compiled = this.#readPrivileges(facts, role);
      privileges.set(role, compiled);
      this.#noteWhenRead(compiled);
      compiled.catch(() => privileges.delete(role));
    }
    return compiled;
  }

  /** Whether `privileges` asks PostgreSQL nothing. */
  hasPrivileges(facts: TableFacts, role: string): boolean {
    return this.#isRead(this.known(facts).privileges.get(role));
  }

  #isRead(reading: Promise<unknown> | undefined): boolean {
    return reading !== undefined && this.#answered.has(reading);
  }

  #noteWhenRead(reading: Promise<unknown>): void {
    reading.then(
      () => this.#answered.add(reading),
      () => undefined,
    );
  }

  /** Compiles a condition, or returns why it is not compilable. */
  compileCondition(facts: TableFacts, sql: string): Promise<Compilation> {
    return this.known(facts).conditions.of(sql, () => compileExpression(this.#sql, facts, sql, NO_TABLES));
  }

  forget(oid: number): void {
    this.#tables.delete(oid);
    this.#current.delete(oid);
  }

  /**
   * Called when a table has been enabled or disabled: compiled policies depend on which tables are streamed.
   */
  forgetAll(): void {
    this.#tables.clear();
    this.#current.clear();
  }

  /**
   * Forgets those of these tables (missing: of all) whose catalog entries have changed. Returns the snapshot in which the
   * others are current; undefined if there are no tables.
   */
  async check(oids: readonly number[] = [...this.#tables.keys()]): Promise<RowSnapshot | undefined> {
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
    const rows = await this.#sql.query<{ oid: number; fingerprint: string; snapshot: string }>(
      `SELECT given.oid::int8::float8 AS oid, ${fingerprintSql('given.oid')} AS fingerprint, now.snapshot
       FROM unnest($1::oid[]) AS given(oid), (SELECT pg_catalog.pg_current_snapshot()::text AS snapshot) now`,
      [asked],
    );
    const [first] = rows;
    if (first === undefined) return undefined;
    const snapshot = new RowSnapshot(first.snapshot);
    const checked = new Set(oids);
    for (const { oid, fingerprint } of rows) {
      for (const { facts, memberships } of dependents.get(oid) ?? [])
        if (memberships.get(oid) !== fingerprint) this.forget(facts.oid);
      const known = checked.has(oid) ? this.#current.get(oid) : undefined;
      if (known === undefined) continue;
      if (known.fingerprint !== fingerprint) this.forget(oid);
      known.asOf = snapshot;
      if (known.runningBelow !== undefined && snapshot.xmin >= known.runningBelow)
        known.runningBelow = undefined;
    }
    return snapshot;
  }

  async #readPrivileges(facts: TableFacts, role: string): Promise<CompiledPrivileges> {
    const { memberships } = this.known(facts);
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

  /**
   * Returns a table that memberships can be read from, or why not. The rows that a role sees must depend on
   * its own rows alone.
   */
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
    if (row?.plain !== true) return 'is not an ordinary table';
    if (!row.streamed) return 'is not set up for row changes';
    const known = await this.#read(row.oid);
    if (known === undefined) return 'is not an ordinary table';
    const privileges = await readPrivileges(this.#sql, known.facts, role, this.#applyPolicies, NO_TABLES);
    if (!privileges.canSelect || privileges.rows === 'none') return 'the role cannot read';
    if (privileges.rows === 'filtered' && 'reason' in privileges.policyCompilation)
      return 'has policies that only PostgreSQL can evaluate';
    return { known, isOpen: privileges.rows === 'all' };
  }

  async #read(oid: number): Promise<KnownTable | undefined> {
    const [row] = await this.#sql.query<TableRow>(FACTS, [oid]);
    if (row === undefined) return undefined;
    const { fingerprint, snapshot, xid, ...facts } = row;
    const known: KnownTable = {
      facts,
      fingerprint,
      privileges: new Map(),
      conditions: new CompiledConditions(),
      memberships: new Map(),
      asOf: new RowSnapshot(snapshot),
      runningBelow: BigInt(xid),
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

/** Names and expressions are qualified, since the session's search path is empty. */
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
    ${fingerprintSql('t.oid')} AS fingerprint,
    pg_catalog.pg_current_snapshot()::text AS snapshot, pg_catalog.pg_current_xact_id()::text AS xid
  FROM t`;
