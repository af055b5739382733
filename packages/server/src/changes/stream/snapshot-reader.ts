import { ProtocolError } from '@goforward/realtime-protocol';
import { quoted } from '../../postgres/sql/identifier.js';
import { recordFields } from '../../postgres/sql/record-text.js';
import type { Sql } from '../../postgres/sql/sql.js';
import { RowSnapshot } from '../model/row-snapshot.js';
import type { TableFacts } from '../model/table-facts.js';
import type { Viewer } from '../model/viewer.js';
import { RecordWriter } from '../values/row-json.js';
import { ValueFormats } from '../values/value-formats.js';
import type { Condition } from '../visibility/authorizer.js';
import { asAuthorsFault } from '../visibility/check-condition.js';
import type { EvaluationErrorLog } from '../visibility/evaluating/evaluation-error-log.js';
import type { RolePrivileges } from '../visibility/role-privileges.js';

export interface SnapshotReaderParts {
  readonly database: Sql & { transaction<T>(work: (sql: Sql) => Promise<T>): Promise<T> };
  /** False: policies are not applied. */
  readonly enableRls: boolean;
  readonly errorLog: EvaluationErrorLog;
  /** Whether a transaction was read from the log already, by the number that the log gives it. */
  readonly isRead: (xid: number) => boolean;
}

export interface SnapshotQuery {
  readonly table: TableFacts;
  readonly privileges: RolePrivileges;
  readonly viewer: Viewer;
  /** Missing: all columns that may be read. */
  readonly columns?: readonly string[];
  readonly condition: Condition | null;
}

/** The rows that are visible, as JSON objects in pages, and what they were seen with. */
export interface TableSnapshot {
  readonly seen: RowSnapshot;
  readonly pages: readonly (readonly string[])[];
}

const MAX_ROWS = 10_000;
const MAX_BYTES = 16 * 1024 * 1024;
const PAGE_ROWS = 200;
const PAGE_BYTES = 256 * 1024;
const TIMEOUT_MS = 10_000;
/** A transaction that is in the log and not yet done for others is so for a moment; longer where a standby is waited for. */
const ATTEMPTS = 50;

/** Several at once would only make each other slow, and fill the memory. */
const AT_ONCE = 4;

/** Reads the rows of a table that a user may see now, with what tells them from the changes after. */
export class SnapshotReader {
  readonly #parts: SnapshotReaderParts;
  #running = 0;
  readonly #waiting: (() => void)[] = [];

  constructor(parts: SnapshotReaderParts) {
    this.#parts = parts;
  }

  /** Throws DB_SUBSCRIPTION_FAILED where there is too much, or PostgreSQL refuses. */
  async read(query: SnapshotQuery): Promise<TableSnapshot> {
    await this.#acquire();
    try {
      for (let attempt = 0; attempt < ATTEMPTS; attempt++) {
        const snapshot = await this.#attempt(query);
        if (snapshot !== undefined) return snapshot;
      }
      throw new ProtocolError('DATABASE_UNAVAILABLE', { fields: { retry_after: 1 } });
    } catch (error) {
      throw this.#asRefusal(query, error);
    } finally {
      this.#running -= 1;
      this.#waiting.shift()?.();
    }
  }

  /** Logs what a policy or the condition raised. Its text can hold values of hidden rows, and stays here. */
  #asRefusal({ table, privileges, viewer, condition }: SnapshotQuery, error: unknown): unknown {
    if (asAuthorsFault(error) === error || !(error instanceof Error && 'code' in error)) return error;
    this.#parts.errorLog.report({
      table,
      role: viewer.role,
      error: { sqlstate: String(error.code), message: error.message },
      raisedBy: condition === null ? 'policy' : 'policy or condition',
      policies: privileges.policies.map(({ name }) => name),
    });
    const details = 'The rows cannot be read: a policy or the condition raised an error or took too long';
    return new ProtocolError('DB_SUBSCRIPTION_FAILED', { details });
  }

  async #acquire(): Promise<void> {
    if (this.#running >= AT_ONCE) await new Promise<void>((resolve) => this.#waiting.push(resolve));
    this.#running += 1;
  }

  /** Undefined when a transaction was seen as running that the log has brought already: its changes were in neither. */
  #attempt({
    table,
    privileges,
    viewer,
    columns,
    condition,
  }: SnapshotQuery): Promise<TableSnapshot | undefined> {
    const { database, enableRls, isRead } = this.#parts;
    const wanted = table.columns.filter(
      ({ name, generated }) =>
        generated === null &&
        privileges.columns.has(name) &&
        (columns === undefined || columns.includes(name)),
    );
    return database.transaction(async (sql) => {
      await sql.query('SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY');
      await sql.query(`SET LOCAL statement_timeout = ${TIMEOUT_MS}`);
      const [row] = await sql.query<{ seen: string }>('SELECT pg_current_snapshot()::text AS seen');
      const seen = new RowSnapshot(row?.seen ?? '');
      if (seen.running.some(isRead)) return undefined;
      const formats = new ValueFormats(sql);
      await formats.load(wanted.map(({ typeOid }) => typeOid));
      await sql.query(
        `SELECT set_config('app.current_user_id', $1, true), set_config('request.jwt.claims', $2, true)`,
        [viewer.userId, viewer.claims],
      );
      if (enableRls) await sql.query(`SET LOCAL ROLE ${quoted(viewer.role)}`);
      const name = `${quoted(table.schema)}.${quoted(table.name)}`;
      const fields = wanted.map((column) => quoted(column.name)).join(', ');
      const where = condition === null ? '' : `WHERE ${condition.sql}`;
      await sql.query(
        `DECLARE "gf$rows" NO SCROLL CURSOR FOR SELECT ROW(${fields})::text AS row FROM ${name} AS ${quoted(table.name)} ${where}`,
      );
      return { seen, pages: await pagesOf(sql, wanted, formats) };
    });
  }
}

async function pagesOf(
  sql: Sql,
  columns: readonly { readonly name: string; readonly typeOid: number }[],
  formats: ValueFormats,
): Promise<string[][]> {
  const writer = new RecordWriter(columns, [...columns.keys()], formats);
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
      if (rows > MAX_ROWS || bytes > MAX_BYTES) throw tooMuch();
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

function tooMuch(): ProtocolError {
  return new ProtocolError('DB_SUBSCRIPTION_FAILED', {
    details: `A snapshot has at most ${MAX_ROWS} rows and ${MAX_BYTES / 1024 / 1024} MB. A condition or fewer columns make it smaller.`,
  });
}
