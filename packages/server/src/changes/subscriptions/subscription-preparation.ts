import { ProtocolError } from '@goforward/realtime-protocol';
import type { ChangeFilter } from '../model/change-filter.js';
import type { TableFacts } from '../model/table-facts.js';
import type { EnableResult } from '../tables/table-registry.js';
import type { Authorizer, Condition } from '../visibility/authorizer.js';

/** A filter that was held against its table. */
export interface PreparedFilter {
  readonly tableOid: number | undefined;
  readonly condition: Condition | null;
  readonly active: boolean;
  readonly warnings: readonly string[];
}

export interface SubscriptionPreparationParts {
  readonly tables: {
    enable(schema: string, table: string): Promise<EnableResult>;
    isEnabled(oid: number): boolean;
    inspect(schema: string, table: string): Promise<{ readonly oid: number }>;
    /** Why no subscriber can see a row of the table: names roles and policies. */
    unreachableWarnings(oid: number): Promise<readonly string[]>;
    /** Old rows are whole, whatever the replica identity: they do not come from the log. */
    readonly hasWholeOldRows: boolean;
  };
  readonly authorizer: Pick<Authorizer, 'current' | 'privileges'>;
  readonly checkCondition: (table: TableFacts, role: string, text: string) => Promise<Condition>;
}

/** Holds filters against the tables that they name: whether they can be served, and what of them cannot. */
export class SubscriptionPreparation {
  readonly #parts: SubscriptionPreparationParts;

  constructor(parts: SubscriptionPreparationParts) {
    this.#parts = parts;
  }

  /** For a new subscription: a server admin opts the table in by it. Throws DB_SUBSCRIPTION_FAILED. */
  async forSubscriber(
    filter: ChangeFilter,
    { role, isServerAdmin }: { readonly role: string; readonly isServerAdmin: boolean },
  ): Promise<PreparedFilter> {
    const { tables } = this.#parts;
    const { schema, table } = filter;
    const { oid } = await failing(tables.inspect(schema, table));
    const warnings: string[] = [];
    if (!tables.isEnabled(oid)) {
      if (!isServerAdmin) {
        throw failed(
          `Row changes of '${table}' are not set up. A server admin sets them up: POST /realtime/triggers/${encodeURIComponent(table)}${schema === 'public' ? '' : `?schema=${encodeURIComponent(schema)}`}`,
        );
      }
      // Nothing is opted in for a filter that cannot be served.
      await this.#check(oid, filter, role, false);
      warnings.push(...(await failing(tables.enable(schema, table))).warnings);
    }
    const prepared = await this.#check(oid, filter, role, true);
    if (isServerAdmin) warnings.push(...(await tables.unreachableWarnings(oid)));
    return { ...prepared, warnings: [...new Set([...warnings, ...prepared.warnings])] };
  }

  /** For one that was kept. Throws DB_SUBSCRIPTION_FAILED where the filter fits its table no more. */
  async prepare(filter: ChangeFilter, role: string): Promise<PreparedFilter> {
    const { oid } = await failing(this.#parts.tables.inspect(filter.schema, filter.table));
    return this.#check(oid, filter, role, false);
  }

  async #check(
    oid: number,
    filter: ChangeFilter,
    role: string,
    needsPrivileges: boolean,
  ): Promise<PreparedFilter> {
    const { authorizer, tables, checkCondition } = this.#parts;
    // What was granted a moment ago must count.
    const facts = await authorizer.current(oid);
    if (facts === undefined) throw failed(`Table '${filter.table}' does not exist`);
    requireColumns(facts, filter);
    const active = tables.isEnabled(oid);
    if (!needsPrivileges && !active) {
      if (filter.condition !== undefined)
        await checkColumnsOnly(checkCondition, facts, role, filter.condition);
      return { tableOid: oid, condition: null, active: false, warnings: [] };
    }
    const privileges = await authorizer.privileges(facts, role);
    if (needsPrivileges && !privileges.canSelect) throw failed(`permission denied for table ${filter.table}`);
    const condition =
      filter.condition === undefined ? null : await checkCondition(facts, role, filter.condition);
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

/** A table that is not opted in has no rights for the role yet; whether the condition can be read at all is known. */
async function checkColumnsOnly(
  check: SubscriptionPreparationParts['checkCondition'],
  facts: TableFacts,
  role: string,
  condition: string,
): Promise<void> {
  try {
    await check(facts, role, condition);
  } catch (error) {
    const details = error instanceof ProtocolError ? (error.body.details ?? '') : '';
    if (!details.startsWith('permission denied')) throw error;
  }
}

function requireColumns({ columns, name }: TableFacts, filter: ChangeFilter): void {
  for (const wanted of filter.columns ?? []) {
    const column = columns.find((known) => known.name === wanted);
    if (column === undefined) throw failed(`Column '${wanted}' does not exist in table '${name}'`, 'columns');
    if (column.generated !== null)
      throw failed(`Column '${wanted}' is generated, and row changes do not carry it`, 'columns');
  }
}

function identityWarnings({ identity, identityColumns }: TableFacts, reads: readonly string[]): string[] {
  if (identity === 'f') return [];
  const bypassesPolicies = reads.some((name) => !identityColumns.includes(name));
  return [
    bypassesPolicies
      ? 'The old version of a row is known by its key alone, and policies or the condition read more: a DELETE is not sent, nor is that a row went out of view. REPLICA IDENTITY FULL changes that.'
      : 'The old version of a row is known by its key alone: a DELETE has the key, and an UPDATE does not tell what the row was before. REPLICA IDENTITY FULL changes that.',
  ];
}

/** The errors of tables become those of a subscription. */
async function failing<T>(work: Promise<T>): Promise<T> {
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
