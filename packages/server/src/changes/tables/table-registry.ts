import { ProtocolError } from '@goforward/realtime-protocol';
import type { SourceChoice, SourceKind } from '../../postgres/choice/source-choice.js';
import { ensureSubscriberRole } from '../../postgres/migrations/subscriber-role.js';
import { unreachableWarning } from '../../postgres/preflight/reachability-advice.js';
import { readReachability, type TableReachability } from '../../postgres/preflight/table-reachability.js';
import { ensurePublication } from '../../postgres/replication/slot.js';
import { qualified, quoted } from '../../postgres/sql/identifier.js';
import type { Sql } from '../../postgres/sql/sql.js';
import { tableShapes } from '../../postgres/triggers/outbox.js';
import { DEFAULT_DB_ROLE } from '../model/viewer.js';
import type { AllowedTables } from './allowed-tables.js';
import { createTriggers, dropTriggers, type TriggerState } from './change-triggers.js';
import { type InspectedTable, inspectTable, requireStreamable, type TablePart } from './table-inspection.js';
import { warningsFor } from './table-warnings.js';

/** The part of the database that the registry uses. */
export interface TableDatabase extends Sql {
  /** The schema of our own tables. */
  readonly schema: string;
  transaction<T>(work: (sql: Sql) => Promise<T>): Promise<T>;
}

/** A table whose row changes are streamed. */
export interface EnabledTable {
  readonly oid: number;
  readonly schema: string;
  readonly name: string;
  readonly enabledAt: Date;
  /** False if the table has been dropped. */
  readonly active: boolean;
}

/** The state of a table before it was enabled, which disabling restores. */
interface PreviousState {
  readonly published: boolean;
  readonly select: boolean;
  readonly usage: boolean;
  readonly identities: readonly TablePart[];
}

export interface EnableResult {
  readonly table: EnabledTable;
  readonly isNew: boolean;
  readonly warnings: readonly string[];
}

/** The settings that decide what subscribers can be evaluated as. */
interface Subscribers {
  readonly dbRoles: readonly string[];
  readonly enableRls: boolean;
}

export type TableListener = (table: EnabledTable, event: 'enabled' | 'disabled') => void;

/** How long enabling waits for a lock on the table, in ms; statements of the application queue behind it. */
const LOCK_TIMEOUT_MS = 5_000;

const IDENTITIES = { d: 'DEFAULT', n: 'NOTHING', f: 'FULL' } as const;

/** Enables and disables tables for row changes. Disabling a table restores its previous state. */
export class TableRegistry {
  readonly #database: TableDatabase;
  readonly #publication: string;
  readonly #filter: AllowedTables;
  readonly #tables = new Map<number, EnabledTable>();
  readonly #listeners: TableListener[] = [];
  readonly #sourceChoice: Pick<SourceChoice, 'kind' | 'decide'>;
  readonly #subscribers: Subscribers;

  /** `sourceChoice`: the change source, for which tables are prepared. */
  constructor(
    database: TableDatabase,
    publication: string,
    filter: AllowedTables,
    sourceChoice: Pick<SourceChoice, 'kind' | 'decide'>,
    { dbRoles, enableRls }: Subscribers,
  ) {
    this.#sourceChoice = sourceChoice;
    this.#subscribers = { dbRoles, enableRls };
    this.#database = database;
    this.#publication = publication;
    this.#filter = filter;
  }

  /** Whether old rows are complete whatever the replica identity is: triggers record them so. */
  get hasWholeOldRows(): boolean {
    return this.#sourceChoice.kind === 'trigger';
  }

  onChange(listener: TableListener): void {
    this.#listeners.push(listener);
  }

  /** Reads the enabled tables; called each time that the database connection is established. */
  async load(): Promise<void> {
    const rows = await this.#database.query<{
      oid: number;
      schema: string;
      name: string;
      opted_in_at: Date;
      active: boolean;
    }>(
      `SELECT t.oid::int8::float8 AS oid, coalesce(n.nspname::text, t.schema_name) AS schema,
         coalesce(c.relname::text, t.table_name) AS name, t.opted_in_at, c.oid IS NOT NULL AS active
       FROM ${this.#database.schema}.tables t
       LEFT JOIN pg_class c ON c.oid = t.oid LEFT JOIN pg_namespace n ON n.oid = c.relnamespace`,
    );
    this.#tables.clear();
    for (const { oid, schema, name, opted_in_at: enabledAt, active } of rows)
      this.#tables.set(oid, { oid, schema, name, enabledAt, active });
  }

  /** Returns the enabled tables, sorted by schema and name. */
  list(): readonly EnabledTable[] {
    const sortKey = ({ schema, name }: EnabledTable) => `${schema}\0${name}`;
    return [...this.#tables.values()].sort((a, b) => (sortKey(a) < sortKey(b) ? -1 : 1));
  }

  isEnabled(oid: number): boolean {
    return this.#tables.has(oid);
  }

  /** Reads the table's present facts, whether it is enabled or not. Throws TABLE_NOT_FOUND. */
  async inspect(schema: string, table: string): Promise<InspectedTable> {
    const names = { schema, table, publication: this.#publication, role: DEFAULT_DB_ROLE };
    const found = await inspectTable(this.#database, names);
    if (found === undefined) throw notFound(schema, table);
    return found;
  }

  /** Reads which subscriber roles can see rows of a table; undefined if it has been dropped. */
  async reachability(oid: number, sql: Sql = this.#database): Promise<TableReachability | undefined> {
    const [found] = await readReachability(sql, { oids: '$1', ...this.#subscribers }, [oid]);
    return found;
  }

  /** Says why no subscriber can see a row of the table and which statements change that; empty if one can. */
  async unreachableWarnings(oid: number, sql: Sql = this.#database): Promise<string[]> {
    const found = await this.reachability(oid, sql);
    const warning = found === undefined ? undefined : unreachableWarning(found);
    return warning === undefined ? [] : [warning];
  }

  /**
   * Enables a table; repeating it changes nothing. Throws TABLE_NOT_FOUND, TABLE_NOT_ALLOWED or
   * DATABASE_UNAVAILABLE.
   */
  async enable(
    schema: string,
    table: string,
    options: { identity?: 'keep' | undefined } = {},
  ): Promise<EnableResult> {
    if (!this.#filter.allows(schema, table))
      throw new ProtocolError('TABLE_NOT_ALLOWED', {
        details: `REALTIME_FILTER_TABLES or REALTIME_EXCLUDE_TABLES excludes ${schema}.${table}`,
      });
    const keepsIdentity = options.identity === 'keep';
    const kind = await this.#prepareSource();
    const { inspected, enabledAt, warnings } = await this.#change(async (sql) => {
      const names = { schema, table, publication: this.#publication, role: DEFAULT_DB_ROLE };
      const found = await inspectTable(sql, names);
      if (found === undefined) throw notFound(schema, table);
      requireStreamable(found, keepsIdentity, this.#database.schema);
      const isCustom = kind === 'trigger' && (await this.#createTriggers(sql, found)) === 'custom';
      if (kind === 'logical') await this.#publish(sql, found, keepsIdentity);
      const enabledAt = await this.#grantAccess(sql, found);
      const warnings = [
        ...warningsFor(found, kind, keepsIdentity, isCustom),
        ...(await this.unreachableWarnings(found.oid, sql)),
      ];
      return { inspected: found, enabledAt, warnings };
    });
    const { oid, name } = inspected;
    const isNew = !this.#tables.has(oid);
    const entry: EnabledTable = { oid, schema: inspected.schema, name, enabledAt, active: true };
    this.#tables.set(oid, entry);
    if (isNew) this.#notify(entry, 'enabled');
    return { table: entry, isNew, warnings };
  }

  /** Disables a table and restores its previous state. Throws TABLE_NOT_FOUND or TRIGGER_NOT_FOUND. */
  async disable(schema: string, table: string): Promise<void> {
    const entry = this.list().find((known) => known.schema === schema && known.name === table);
    if (entry === undefined) {
      await this.inspect(schema, table);
      throw new ProtocolError('TRIGGER_NOT_FOUND', { error: `table ${table} is not set up for row changes` });
    }
    await this.#change(async (sql) => {
      const names = { schema, table, publication: this.#publication, role: DEFAULT_DB_ROLE };
      const now = await inspectTable(sql, names);
      const [removed] = await sql.query<{ found: PreviousState }>(
        `DELETE FROM ${this.#database.schema}.tables WHERE oid = $1 RETURNING found`,
        [entry.oid],
      );
      if (removed !== undefined && now?.oid === entry.oid) await this.#restore(sql, now, removed.found);
    });
    this.#tables.delete(entry.oid);
    this.#notify(entry, 'disabled');
  }

  /**
   * Gives new partitions of enabled tables REPLICA IDENTITY FULL; PostgreSQL itself gives them the triggers.
   */
  async setPartitionIdentities(): Promise<void> {
    if (this.#sourceChoice.kind !== 'logical') return;
    const rows = await this.#database.query<{ schema: string; name: string }>(
      `SELECT pn.nspname::text AS schema, pc.relname::text AS name
       FROM ${this.#database.schema}.tables t JOIN pg_class c ON c.oid = t.oid AND c.relkind = 'p' AND c.relreplident = 'f'
       CROSS JOIN LATERAL pg_partition_tree(c.oid) tree
       JOIN pg_class pc ON pc.oid = tree.relid JOIN pg_namespace pn ON pn.oid = pc.relnamespace
       WHERE pc.relkind IN ('r', 'p') AND pc.relreplident <> 'f'`,
    );
    for (const part of rows)
      await this.#database.query(`ALTER TABLE ${qualified(part)} REPLICA IDENTITY FULL`);
  }

  /**
   * Prepares the enabled tables for a change source and removes what the other one needs. Returns whether
   * some were not prepared: their changes have been missed.
   */
  async switchSource(kind: SourceKind): Promise<boolean> {
    await this.#prepareSource();
    let hasMissedChanges = false;
    const rows = await this.#database.query<{ schema: string; name: string }>(
      `SELECT n.nspname::text AS schema, c.relname::text AS name FROM ${this.#database.schema}.tables t
       JOIN pg_class c ON c.oid = t.oid JOIN pg_namespace n ON n.oid = c.relnamespace ORDER BY c.oid`,
    );
    for (const { schema, name } of rows) {
      const wasChanged = await this.#change(async (sql) => {
        const names = { schema, table: name, publication: this.#publication, role: DEFAULT_DB_ROLE };
        const table = await inspectTable(sql, names);
        if (table === undefined || !table.isOwn) return false;
        if (kind === 'trigger') return (await this.#createTriggers(sql, table)) === 'created';
        const hadTriggers = await dropTriggers(sql, this.#database.schema, table);
        if (hadTriggers) await this.#publish(sql, table, false);
        return hadTriggers;
      });
      hasMissedChanges ||= wasChanged;
    }
    return hasMissedChanges;
  }

  /** Creates the triggers and records the table's columns, by which the outbox is decoded. */
  async #createTriggers(sql: Sql, table: InspectedTable): Promise<TriggerState> {
    const { schema } = this.#database;
    const state = await createTriggers(sql, schema, table);
    const parts = table.parts.map(({ oid }) => oid);
    if (state !== 'present') await tableShapes(sql, schema, parts);
    return state;
  }

  async #publish(sql: Sql, table: InspectedTable, keepsIdentity: boolean): Promise<void> {
    if (!table.isPublished)
      await sql.query(`ALTER PUBLICATION ${quoted(this.#publication)} ADD TABLE ${qualified(table)}`);
    if (keepsIdentity) return;
    for (const part of table.parts)
      if (part.identity !== 'f') await sql.query(`ALTER TABLE ${qualified(part)} REPLICA IDENTITY FULL`);
  }

  /** Grants access and records the table with its previous state, in the caller's transaction. */
  async #grantAccess(sql: Sql, table: InspectedTable): Promise<Date> {
    const name = qualified(table);
    if (!table.canRoleSelect) await sql.query(`GRANT SELECT ON TABLE ${name} TO ${DEFAULT_DB_ROLE}`);
    if (!table.canRoleUseSchema && table.canGrantSchema)
      await sql.query(`GRANT USAGE ON SCHEMA ${quoted(table.schema)} TO ${DEFAULT_DB_ROLE}`);
    const found: PreviousState = {
      published: table.isPublished,
      select: table.canRoleSelect,
      usage: table.canRoleUseSchema,
      identities: table.parts,
    };
    const [row] = await sql.query<{ opted_in_at: Date }>(
      `INSERT INTO ${this.#database.schema}.tables AS kept (oid, schema_name, table_name, found) VALUES ($1, $2, $3, $4)
       ON CONFLICT (oid) DO UPDATE SET schema_name = excluded.schema_name, table_name = excluded.table_name
       RETURNING opted_in_at`,
      [table.oid, table.schema, table.name, JSON.stringify(found)],
    );
    return row?.opted_in_at ?? new Date();
  }

  async #restore(sql: Sql, table: InspectedTable, found: PreviousState): Promise<void> {
    const name = qualified(table);
    await dropTriggers(sql, this.#database.schema, table);
    if (!found.published && table.isPublished)
      await sql.query(`ALTER PUBLICATION ${quoted(this.#publication)} DROP TABLE ${name}`);
    for (const part of table.parts) {
      const before = found.identities.find(({ oid }) => oid === part.oid);
      if (before === undefined || before.identity === part.identity) continue;
      const { identity, index } = before;
      if (identity !== 'i')
        await sql.query(`ALTER TABLE ${qualified(part)} REPLICA IDENTITY ${IDENTITIES[identity]}`);
      else if (index !== null)
        await sql.query(`ALTER TABLE ${qualified(part)} REPLICA IDENTITY USING INDEX ${quoted(index)}`);
    }
    if (!found.select) await sql.query(`REVOKE SELECT ON TABLE ${name} FROM ${DEFAULT_DB_ROLE}`);
    const [others] = await sql.query<{ count: number }>(
      `SELECT count(*)::int AS count FROM ${this.#database.schema}.tables WHERE schema_name = $1`,
      [table.schema],
    );
    if (!found.usage && table.canGrantSchema && others?.count === 0)
      await sql.query(`REVOKE USAGE ON SCHEMA ${quoted(table.schema)} FROM ${DEFAULT_DB_ROLE}`);
  }

  /**
   * Creates the subscriber role and the publication: the stream does so too, but may not have started yet.
   */
  async #prepareSource(): Promise<SourceKind> {
    try {
      const kind = await this.#sourceChoice.decide();
      await ensureSubscriberRole(this.#database);
      if (kind === 'logical') await ensurePublication(this.#database, this.#publication);
      return kind;
    } catch (error) {
      throw asProtocolError(error);
    }
  }

  /**
   * Runs one change at a time in a transaction: the previous state must not be another change's unfinished
   * one.
   */
  async #change<T>(work: (sql: Sql) => Promise<T>): Promise<T> {
    try {
      return await this.#database.transaction(async (sql) => {
        await sql.query(`SET LOCAL lock_timeout = '${LOCK_TIMEOUT_MS}ms'`);
        await sql.query(`LOCK TABLE ${this.#database.schema}.tables IN SHARE ROW EXCLUSIVE MODE`);
        return work(sql);
      });
    } catch (error) {
      throw asProtocolError(error);
    }
  }

  #notify(table: EnabledTable, event: 'enabled' | 'disabled'): void {
    for (const listener of this.#listeners) listener(table, event);
  }
}

/**
 * Passes on PostgreSQL's message of a refusal: it names only objects that the server admin has named or owns.
 */
function asProtocolError(error: unknown): unknown {
  if (!(error instanceof Error && 'severity' in error && 'code' in error)) return error;
  if (error.code === '55P03') {
    return new ProtocolError('DATABASE_UNAVAILABLE', {
      details: 'Another transaction holds a lock on the table',
      fields: { retry_after: 5 },
    });
  }
  if (error.code !== '42501' && error.code !== '42704') return error;
  return new ProtocolError('TABLE_NOT_ALLOWED', { details: error.message });
}

function notFound(schema: string, table: string): ProtocolError {
  const name = schema === 'public' ? table : `${schema}.${table}`;
  return new ProtocolError('TABLE_NOT_FOUND', { error: `Table '${name}' does not exist` });
}
