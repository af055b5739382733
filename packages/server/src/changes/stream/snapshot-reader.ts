import { ProtocolError } from '@goforward/realtime-protocol';
import { FairQueue } from '../../lib/fair-queue.js';
import type { StatementOptions } from '../../postgres/connection/statement-options.js';
import { quoted } from '../../postgres/sql/identifier.js';
import { recordFields } from '../../postgres/sql/record-text.js';
import type { Sql } from '../../postgres/sql/sql.js';
import { RowSnapshot } from '../model/row-snapshot.js';
import type { TableFacts } from '../model/table-facts.js';
import { settingsStatement, type Viewer } from '../model/viewer.js';
import { JsonRecordWriter } from '../values/json-record-writer.js';
import { ValueFormats } from '../values/value-formats.js';
import type { Condition } from '../visibility/authorizer.js';
import type { EvaluationErrorLog } from '../visibility/evaluating/evaluation-error-log.js';
import type { RolePrivileges } from '../visibility/role-privileges.js';

export interface SnapshotReaderParts {
  readonly database: {
    transaction<T>(work: (sql: Sql) => Promise<T>, options: StatementOptions): Promise<T>;
  };
  /** False: policies are not applied. */
  readonly enableRls: boolean;
  readonly errorLog: EvaluationErrorLog;
  /**
   * Whether a transaction has been read from the stream already. `xid`: the 32-bit xid, as the WAL has it.
   */
  readonly isRead: (xid: number) => boolean;
}

export interface SnapshotQuery {
  readonly table: TableFacts;
  readonly privileges: RolePrivileges;
  readonly viewer: Viewer;
  /** The columns to read; missing: all that the role is allowed to read. */
  readonly columns?: readonly string[];
  readonly condition: Condition | null;
}

/** The visible rows, as pages of JSON objects, and the transactions that the SELECT saw. */
export interface TableSnapshot {
  readonly seen: RowSnapshot;
  readonly pages: readonly (readonly string[])[];
}

const MAX_ROWS = 10_000;
const MAX_BYTES = 16 * 1024 * 1024;
const PAGE_ROWS = 200;
const PAGE_BYTES = 256 * 1024;
const STATEMENT_TIMEOUT_MS = 10_000;
/** After this a statement is cancelled from here, in ms. */
const STATEMENT_LIMIT_MS = 15_000;
/** SQLSTATE classes of errors of PostgreSQL itself: connections, serialization, resources, a shutdown. */
const NOT_OF_EVALUATION = /^(?:08|40|53|57P|58|XX)/;
/**
 * How often the rows are read. A committed transaction is in the WAL before other sessions see it: usually
 * for a moment, for longer while the commit waits for a synchronous standby.
 */
const MAX_ATTEMPTS = 50;

/** More concurrent snapshots would only slow each other down, fill the memory and leave no connection to replays. */
const CONCURRENT = { atOnce: 2, perUser: 1 };

/**
 * Reads the rows of a table that a viewer sees now, with the snapshot that separates them from later changes.
 */
export class SnapshotReader {
  readonly #parts: SnapshotReaderParts;
  readonly #queue = new FairQueue(CONCURRENT);

  constructor(parts: SnapshotReaderParts) {
    this.#parts = parts;
  }

  /**
   * Reads when it is the user's turn. Throws DB_SUBSCRIPTION_FAILED if there are too many rows or PostgreSQL refuses the
   * query, DATABASE_UNAVAILABLE if no consistent snapshot was found, the reason of `signal` when that aborts.
   */
  read(
    query: SnapshotQuery,
    { user, signal }: { readonly user: string; readonly signal: AbortSignal },
  ): Promise<TableSnapshot> {
    return this.#queue.run(user, () => this.#read(query, signal), signal);
  }

  async #read(query: SnapshotQuery, signal: AbortSignal): Promise<TableSnapshot> {
    try {
      for (let attempt = 0; attempt < MAX_ATTEMPTS; attempt++) {
        const snapshot = await this.#attempt(query, signal);
        if (snapshot !== undefined) return snapshot;
      }
      throw new ProtocolError('DATABASE_UNAVAILABLE', { fields: { retry_after: 1 } });
    } catch (error) {
      throw this.#asRefusal(query, error);
    }
  }

  /** Logs what a policy or the condition raised. Its text can hold values of hidden rows, and stays here. */
  #asRefusal({ table, privileges, viewer, condition }: SnapshotQuery, error: unknown): unknown {
    if (!isEvaluationError(error)) return error;
    this.#parts.errorLog.report({
      table,
      role: viewer.role,
      error: { sqlstate: error.code, message: error.message },
      raisedBy: condition === null ? 'policy' : 'policy or condition',
      policies: privileges.policies.map(({ name }) => name),
    });
    const details = 'The rows cannot be read: a policy or the condition raised an error or took too long';
    return new ProtocolError('DB_SUBSCRIPTION_FAILED', { details });
  }

  /**
   * Returns undefined if the SELECT saw a transaction as running that the stream has brought already: its
   * changes would be in neither the rows nor the changes after them.
   */
  #attempt(
    { table, privileges, viewer, columns, condition }: SnapshotQuery,
    signal: AbortSignal,
  ): Promise<TableSnapshot | undefined> {
    const { database, enableRls, isRead } = this.#parts;
    const selected = table.columns.filter(
      ({ name, generated }) =>
        generated === null &&
        privileges.columns.has(name) &&
        (columns === undefined || columns.includes(name)),
    );
    const read = async (sql: Sql) => {
      await sql.query('SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY');
      await sql.query(`SET LOCAL statement_timeout = ${STATEMENT_TIMEOUT_MS}`);
      const [row] = await sql.query<{ seen: string }>('SELECT pg_current_snapshot()::text AS seen');
      const seen = new RowSnapshot(row?.seen ?? '');
      if (seen.running.some(isRead)) return undefined;
      const formats = new ValueFormats(sql);
      await formats.load(selected.map(({ typeOid }) => typeOid));
      await sql.query(...settingsStatement(viewer));
      if (enableRls) await sql.query(`SET LOCAL ROLE ${quoted(viewer.role)}`);
      const name = `${quoted(table.schema)}.${quoted(table.name)}`;
      const fields = selected.map((column) => quoted(column.name)).join(', ');
      const where = condition === null ? '' : `WHERE ${condition.sql}`;
      await sql.query(
        `DECLARE "gf$rows" NO SCROLL CURSOR FOR SELECT ROW(${fields})::text AS row FROM ${name} AS ${quoted(table.name)} ${where}`,
      );
      return { seen, pages: await pagesOf(sql, selected, formats) };
    };
    return database.transaction(read, { signal, limitMs: STATEMENT_LIMIT_MS });
  }
}

/** Fetches the rows of the cursor and splits them into pages. */
async function pagesOf(
  sql: Sql,
  columns: readonly { readonly name: string; readonly typeOid: number }[],
  formats: ValueFormats,
): Promise<string[][]> {
  const writer = new JsonRecordWriter(columns, [...columns.keys()], formats);
  const pages: string[][] = [];
  let page: string[] = [];
  let pageBytes = 0;
  let rows = 0;
  let bytes = 0;
  for (;;) {
    const fetched = await sql.query<{ row: string }>(`FETCH ${PAGE_ROWS} FROM "gf$rows"`);
    const images = fetched.map(({ row }) => recordFields(row));
    formats.beginRows();
    await formats.convert(
      {
        oid: 0,
        schema: '',
        name: '',
        identity: 'n',
        columns: columns.map((column) => ({ ...column, typeModifier: -1, isKey: false })),
      },
      images,
    );
    for (const image of images) {
      const json = writer.json(image);
      rows += 1;
      bytes += json.length;
      if (rows > MAX_ROWS || bytes > MAX_BYTES) throw snapshotTooLarge();
      if (page.length >= PAGE_ROWS || pageBytes + json.length > PAGE_BYTES) {
        if (page.length > 0) pages.push(page);
        page = [];
        pageBytes = 0;
      }
      page.push(json);
      pageBytes += json.length;
    }
    if (fetched.length < PAGE_ROWS) break;
  }
  pages.push(page);
  return pages;
}

function snapshotTooLarge(): ProtocolError {
  return new ProtocolError('DB_SUBSCRIPTION_FAILED', {
    details: `A snapshot has at most ${MAX_ROWS} rows and ${MAX_BYTES / 1024 / 1024} MB: add a condition, or select fewer columns.`,
  });
}

/** Whether a policy or condition can have raised the error: not for a lost connection or a full disk. */
function isEvaluationError(error: unknown): error is Error & { code: string } {
  return (
    error instanceof Error &&
    'severity' in error &&
    'code' in error &&
    typeof error.code === 'string' &&
    !NOT_OF_EVALUATION.test(error.code)
  );
}
