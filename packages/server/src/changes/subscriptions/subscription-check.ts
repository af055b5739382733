import { ProtocolError } from '@goforward/realtime-protocol';
import { FairQueue } from '../../lib/fair-queue.js';
import type { ChangeFilter } from '../model/change-filter.js';
import type { TableFacts } from '../model/table-facts.js';
import type { EnableResult } from '../tables/table-registry.js';
import type { Authorizer, Condition } from '../visibility/authorizer.js';

/** A filter that was checked against its table. */
export interface CheckedFilter {
  readonly tableOid: number | undefined;
  readonly condition: Condition | null;
  readonly active: boolean;
  readonly warnings: readonly string[];
}

export interface SubscriptionCheckParts {
  readonly tables: {
    enable(schema: string, table: string): Promise<EnableResult>;
    isEnabled(oid: number): boolean;
    inspect(schema: string, table: string): Promise<{ readonly oid: number }>;
    /** Why no subscriber can see a row of the table; names roles and policies. */
    unreachableWarnings(oid: number): Promise<readonly string[]>;
    /** Whether old rows are complete with any replica identity, because they do not come from the WAL. */
    readonly hasWholeOldRows: boolean;
  };
  readonly authorizer: Pick<Authorizer, 'current' | 'privileges'>;
  readonly checkCondition: (
    table: TableFacts,
    role: string,
    text: string,
    signal?: AbortSignal,
  ) => Promise<Condition>;
}

/** Who asks for a new subscription. */
export interface CheckedSubscriber {
  readonly role: string;
  /** Whether the table may be enabled. */
  readonly isServerAdmin: boolean;
  /** Users take turns by this key. */
  readonly user: string;
  /** Aborts when nobody waits for the answer. */
  readonly signal: AbortSignal;
}

/**
 * How many filters of users are checked at once: fewer than there are connections for the server's own statements, of
 * which each takes one, and one per user, so that a slow condition delays only its author.
 */
const CONCURRENT = { atOnce: 3, perUser: 1 };

/** Checks filters against the tables that they name: whether they can be served, and with which restrictions. */
export class SubscriptionCheck {
  readonly #parts: SubscriptionCheckParts;
  readonly #queue = new FairQueue(CONCURRENT);

  constructor(parts: SubscriptionCheckParts) {
    this.#parts = parts;
  }

  /**
   * Checks the filter of a new subscription when it is the user's turn. For a server admin, enables the table. Throws
   * DB_SUBSCRIPTION_FAILED, or the reason of the subscriber's signal when that aborts.
   */
  checkNew(filter: ChangeFilter, subscriber: CheckedSubscriber): Promise<CheckedFilter> {
    return this.#queue.run(subscriber.user, () => this.#checkNew(filter, subscriber), subscriber.signal);
  }

  async #checkNew(
    filter: ChangeFilter,
    { role, isServerAdmin, signal }: CheckedSubscriber,
  ): Promise<CheckedFilter> {
    const { tables } = this.#parts;
    const { schema, table } = filter;
    const { oid } = await withSubscriptionErrors(tables.inspect(schema, table));
    const warnings: string[] = [];
    if (!tables.isEnabled(oid)) {
      if (!isServerAdmin) {
        throw failed(
          `Row changes are not enabled for table '${table}'. A server admin can enable them: POST /realtime/triggers/${encodeURIComponent(table)}${schema === 'public' ? '' : `?schema=${encodeURIComponent(schema)}`}`,
        );
      }
      // A filter that cannot be served must not enable the table.
      await this.#check(oid, filter, role, false, signal);
      warnings.push(...(await withSubscriptionErrors(tables.enable(schema, table))).warnings);
    }
    const prepared = await this.#check(oid, filter, role, true, signal);
    if (isServerAdmin) warnings.push(...(await tables.unreachableWarnings(oid)));
    return { ...prepared, warnings: [...new Set([...warnings, ...prepared.warnings])] };
  }

  /** Checks the filter of a stored subscription. Throws DB_SUBSCRIPTION_FAILED if it no longer fits its table. */
  async checkStored(filter: ChangeFilter, role: string): Promise<CheckedFilter> {
    const { oid } = await withSubscriptionErrors(this.#parts.tables.inspect(filter.schema, filter.table));
    return this.#check(oid, filter, role, false);
  }

  async #check(
    oid: number,
    filter: ChangeFilter,
    role: string,
    needsPrivileges: boolean,
    signal?: AbortSignal,
  ): Promise<CheckedFilter> {
    const { authorizer, tables, checkCondition } = this.#parts;
    // Privileges that were granted just now must count.
    const facts = await authorizer.current(oid);
    if (facts === undefined) throw failed(`Table '${filter.table}' does not exist`);
    requireColumns(facts, filter);
    const active = tables.isEnabled(oid);
    if (!needsPrivileges && !active) {
      if (filter.condition !== undefined)
        await checkColumnsOnly(checkCondition, facts, role, filter.condition, signal);
      return { tableOid: oid, condition: null, active: false, warnings: [] };
    }
    const privileges = await authorizer.privileges(facts, role);
    if (needsPrivileges && !privileges.canSelect) throw failed(`permission denied for table ${filter.table}`);
    const condition =
      filter.condition === undefined ? null : await checkCondition(facts, role, filter.condition, signal);
    return {
      tableOid: oid,
      condition,
      active,
      warnings: this.#parts.tables.hasWholeOldRows
        ? []
        : identityWarnings(facts, [...privileges.reads, ...(condition?.columns ?? [])]),
    };
  }
}

/**
 * Checks a condition on a table that is not enabled. The role may have no privileges on it yet, so a missing one is no
 * error here.
 */
async function checkColumnsOnly(
  check: SubscriptionCheckParts['checkCondition'],
  facts: TableFacts,
  role: string,
  condition: string,
  signal: AbortSignal | undefined,
): Promise<void> {
  try {
    await check(facts, role, condition, signal);
  } catch (error) {
    const details = error instanceof ProtocolError ? (error.body.details ?? '') : '';
    if (!details.startsWith('permission denied')) throw error;
  }
}

function requireColumns({ columns, name }: TableFacts, filter: ChangeFilter): void {
  for (const requested of filter.columns ?? []) {
    const column = columns.find((known) => known.name === requested);
    if (column === undefined)
      throw failed(`Column '${requested}' does not exist in table '${name}'`, 'columns');
    if (column.generated !== null)
      throw failed(`Column '${requested}' is generated, and row changes do not carry it`, 'columns');
  }
}

function identityWarnings({ identity, identityColumns }: TableFacts, reads: readonly string[]): string[] {
  if (identity === 'f') return [];
  const readsOtherColumns = reads.some((name) => !identityColumns.includes(name));
  return [
    readsOtherColumns
      ? 'The replica identity has only the key of an old row, and policies or the condition read other columns: a DELETE is not sent, and neither is an UPDATE that makes a row invisible. Set REPLICA IDENTITY FULL to send them.'
      : 'The replica identity has only the key of an old row: a DELETE carries the key, and an UPDATE does not carry the old values. Set REPLICA IDENTITY FULL to send whole old rows.',
  ];
}

/** Converts errors about a table to DB_SUBSCRIPTION_FAILED. */
async function withSubscriptionErrors<T>(work: Promise<T>): Promise<T> {
  try {
    return await work;
  } catch (error) {
    if (!(error instanceof ProtocolError) || error.code === 'DATABASE_UNAVAILABLE') throw error;
    const { error: text, details } = error.body;
    throw failed(error.code === 'TABLE_NOT_FOUND' ? text : (details ?? text));
  }
}

function failed(details: string, field?: string): ProtocolError {
  return new ProtocolError('DB_SUBSCRIPTION_FAILED', {
    details,
    ...(field === undefined ? {} : { fields: { field } }),
  });
}
