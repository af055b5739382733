import { ProtocolError } from '@goforward/realtime-protocol';
import type { SourceChoice, SourceKind } from '../../postgres/choice/source-choice.js';
import { unreachableWarning } from '../../postgres/preflight/reachability-advice.js';
import { ensureSubscriberRole } from '../../postgres/preflight/subscriber-role.js';
import { readReachability, type TableReachability } from '../../postgres/preflight/table-reachability.js';
import { ensurePublication } from '../../postgres/replication/slot.js';
import { qualified, quoted } from '../../postgres/sql/identifier.js';
import type { Sql } from '../../postgres/sql/sql.js';
import { tableShapes } from '../../postgres/triggers/outbox.js';
import { DEFAULT_DB_ROLE } from '../model/viewer.js';
import { createTriggers, dropTriggers, type TriggerState } from './change-triggers.js';
import type { TableFilter } from './table-filter.js';
import { type InspectedTable, inspectTable, requireStreamable, type TablePart } from './table-inspection.js';

/** The database as far as the registry needs it. */
export interface TableDatabase extends Sql {
  /** The schema of our own tables. */
  readonly schema: string;
  transaction<T>(work: (sql: Sql) => Promise<T>): Promise<T>;
}

/** A table that was opted in. */
export interface EnabledTable {
  readonly oid: number;
  readonly schema: string;
  readonly name: string;
  readonly enabledAt: Date;
  /** False: the table is no more. */
  readonly active: boolean;
}

/** What was there before the table was opted in, and is put back. */
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

/** How long a change waits for a table that others use, in ms; while it waits, others wait behind it. */
const LOCK_TIMEOUT_MS = 5_000;

const IDENTITIES = { d: 'DEFAULT', n: 'NOTHING', f: 'FULL' } as const;

/** The tables whose row changes are streamed: opting in publishes a table and readies it, opting out puts back what was found. */
export class TableRegistry {
  readonly #database: TableDatabase;
  readonly #publication: string;
  readonly #filter: TableFilter;
  readonly #tables = new Map<number, EnabledTable>();
  readonly #listeners: TableListener[] = [];
  readonly #sourceChoice: Pick<SourceChoice, 'kind' | 'decide'>;
  readonly #subscribers: Subscribers;

  /** `sourceChoice`: how changes are read, which a table is made ready for. */
  constructor(
    database: TableDatabase,
    publication: string,
    filter: TableFilter,
    sourceChoice: Pick<SourceChoice, 'kind' | 'decide'>,
    { dbRoles, enableRls }: Subscribers,
  ) {
    this.#sourceChoice = sourceChoice;
    this.#subscribers = { dbRoles, enableRls };
    this.#database = database;
    this.#publication = publication;
    this.#filter = filter;
  }

  /** Triggers tell old rows whole, whatever the replica identity. */
  get hasWholeOldRows(): boolean {
    return this.#sourceChoice.kind === 'trigger';
  }

  onChange(listener: TableListener): void {
    this.#listeners.push(listener);
  }

  /** Reads what was kept; called each time that the database is there (again). */
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

  /** By schema and name. */
  list(): readonly EnabledTable[] {
    const sortKey = ({ schema, name }: EnabledTable) => `${schema}\0${name}`;
    return [...this.#tables.values()].sort((a, b) => (sortKey(a) < sortKey(b) ? -1 : 1));
  }

  isEnabled(oid: number): boolean {
    return this.#tables.has(oid);
  }

  /** The table as it is now, whether opted in or not. Throws TABLE_NOT_FOUND. */
  async inspect(schema: string, table: string): Promise<InspectedTable> {
    const names = { schema, table, publication: this.#publication, role: DEFAULT_DB_ROLE };
    const found = await inspectTable(this.#database, names);
    if (found === undefined) throw notFound(schema, table);
    return found;
  }

  /** What roles and policies let subscribers see of a table; undefined where it is no more. */
  async reachability(oid: number, sql: Sql = this.#database): Promise<TableReachability | undefined> {
    const [found] = await readReachability(sql, { oids: '$1', ...this.#subscribers }, [oid]);
    return found;
  }

  /** Why no subscriber can see a row of the table, with the statements that change that. */
  async unreachableWarnings(oid: number, sql: Sql = this.#database): Promise<string[]> {
    const found = await this.reachability(oid, sql);
    const warning = found === undefined ? undefined : unreachableWarning(found);
    return warning === undefined ? [] : [warning];
  }

  /** Opts a table in; once more changes nothing. Throws TABLE_NOT_FOUND, TABLE_NOT_ALLOWED or DATABASE_UNAVAILABLE. */
  async enable(
    schema: string,
    table: string,
    options: { identity?: 'keep' | undefined } = {},
  ): Promise<EnableResult> {
    if (!this.#filter.allows(schema, table))
      throw new ProtocolError('TABLE_NOT_ALLOWED', {
        details: `The settings of this server leave ${schema}.${table} out`,
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

  /** Takes a table out and puts back what was found. Throws TABLE_NOT_FOUND or TRIGGER_NOT_FOUND. */
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

  /** New partitions of opted-in tables are given the identity of the others; triggers they get by themselves. */
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
   * Readies the tables for the way in which changes are read from now on, and takes away what the other way needs.
   * Answers whether some were not ready: their changes have been missed.
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

  /** With the columns that the table has from now on: rows are told by them. */
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

  /** Everything in one transaction: the row of ours comes last, and with it what was found. */
  async #grantAccess(sql: Sql, table: InspectedTable): Promise<Date> {
    const name = qualified(table);
    if (!table.mayRoleSelect) await sql.query(`GRANT SELECT ON TABLE ${name} TO ${DEFAULT_DB_ROLE}`);
    if (!table.mayRoleUseSchema && table.maySchemaBeGranted)
      await sql.query(`GRANT USAGE ON SCHEMA ${quoted(table.schema)} TO ${DEFAULT_DB_ROLE}`);
    const found: PreviousState = {
      published: table.isPublished,
      select: table.mayRoleSelect,
      usage: table.mayRoleUseSchema,
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
    if (!found.usage && table.maySchemaBeGranted && others?.count === 0)
      await sql.query(`REVOKE USAGE ON SCHEMA ${quoted(table.schema)} FROM ${DEFAULT_DB_ROLE}`);
  }

  /** The stream makes both as well, but may not have come so far. */
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

  /** A transaction of its own, one at a time: what one finds must not be what another has just made. */
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

function warningsFor(
  table: InspectedTable,
  kind: SourceKind,
  keepsIdentity: boolean,
  isCustom: boolean,
): string[] {
  const warnings = kind === 'logical' ? identityWarnings(table, keepsIdentity) : [];
  if (isCustom)
    warnings.push(
      'The table carries a trigger that was made by hand. Its changes come by NOTIFY: at most 8,000 bytes each, beyond which the INSERT itself fails; lost while no server listens; and any login can forge them. DROP TRIGGER on it and POST again makes one that loses nothing.',
    );
  if (!table.hasRowSecurity)
    warnings.push(
      'Row level security is off for this table: every member of a subscribed channel sees all of its rows.',
    );
  return warnings;
}

function identityWarnings(table: InspectedTable, keepsIdentity: boolean): string[] {
  const warnings: string[] = [];
  if (!keepsIdentity && table.parts.some(({ identity }) => identity !== 'f'))
    warnings.push(
      'REPLICA IDENTITY FULL was set: each UPDATE and DELETE writes the whole old row to the log, large values too. {"identity": "keep"} leaves it as it is.',
    );
  if (keepsIdentity && table.parts.some(({ identity }) => identity !== 'f'))
    warnings.push(
      'Without REPLICA IDENTITY FULL an old row is known by its key alone: updates do not tell what a row came from or that it went out of view, and a DELETE is sent only where policies and conditions read key columns alone.',
    );
  return warnings;
}

/** What PostgreSQL refuses is told in its own words, which name nothing but what the server admin has named or owns. */
function asProtocolError(error: unknown): unknown {
  if (!(error instanceof Error && 'severity' in error && 'code' in error)) return error;
  if (error.code === '55P03') {
    return new ProtocolError('DATABASE_UNAVAILABLE', {
      details: 'A transaction holds the table locked',
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
