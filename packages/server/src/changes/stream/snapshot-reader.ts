import { ProtocolError } from '@goforward/realtime-protocol';
import { FairQueue } from '../../lib/fair-queue.js';
import { type StatementOptions, StatementTimeout } from '../../postgres/connection/statement-options.js';
import { quoted } from '../../postgres/sql/identifier.js';
import type { Sql } from '../../postgres/sql/sql.js';
import { RowSnapshot } from '../model/row-snapshot.js';
import type { TableFacts } from '../model/table-facts.js';
import { settingsStatement, type Viewer } from '../model/viewer.js';
import { ValueFormats } from '../values/value-formats.js';
import type { Condition } from '../visibility/authorizer.js';
import type { EvaluationErrorLog } from '../visibility/evaluating/evaluation-error-log.js';
import type { RolePrivileges } from '../visibility/role-privileges.js';
import type { SnapshotBudget } from './snapshot-budget.js';
import type { SnapshotFiles } from './snapshot-files.js';
import { SnapshotPages, type StoredPages } from './snapshot-pages.js';
import { writePages } from './snapshot-rows.js';

export interface SnapshotReaderParts {
  readonly database: {
    transaction<T>(work: (sql: Sql) => Promise<T>, options: StatementOptions): Promise<T>;
  };
  /** False: policies are not applied. */
  readonly enableRls: boolean;
  readonly errorLog: EvaluationErrorLog;
  readonly files: Pick<SnapshotFiles, 'create'>;
  readonly budget: SnapshotBudget;
  /**
   * Whether a transaction has been read from the stream already. `xid`: the 32-bit xid, as the WAL has it.
   */
  readonly isRead: (xid: number) => boolean;
  /** How long a transaction may take from its first statement, in ms. */
  readonly transactionMs: number;
}

export interface SnapshotQuery {
  readonly table: TableFacts;
  readonly privileges: RolePrivileges;
  readonly viewer: Viewer;
  /** The columns to read; missing: all that the role is allowed to read. */
  readonly columns?: readonly string[];
  readonly condition: Condition | null;
}

/** The visible rows, and the transactions that the SELECT saw. The caller closes the pages. */
export interface TableSnapshot {
  readonly seen: RowSnapshot;
  readonly pages: StoredPages;
}

/** Who waits for a snapshot. */
export interface SnapshotCaller {
  /** Users take turns by this key, and have a budget of bytes. */
  readonly user: string;
  /** Aborts when nobody waits for the rows any more. */
  readonly signal: AbortSignal;
}

/** Snapshots up to this many bytes stay in memory. */
const MEMORY_BYTES = 256 * 1024;
/** After this a statement is cancelled from here, in ms. */
const STATEMENT_LIMIT_MS = 15_000;
/** SQLSTATE classes of errors of PostgreSQL itself: connections, serialization, resources, a shutdown. */
const NOT_OF_EVALUATION = /^(?:08|40|53|57P|58|XX)/;
/**
 * How often the rows are read. A committed transaction is in the WAL before other sessions see it: usually
 * for a moment, for longer while the commit waits for a synchronous standby.
 */
const MAX_ATTEMPTS = 50;

/**
 * More concurrent snapshots would only slow each other down, and leave no connection to replays. One of a user at a time:
 * a user who asks for many does not delay another.
 */
const CONCURRENT = { atOnce: 2, perUser: 1 };

/**
 * Reads the rows of a table that a viewer sees now, with the snapshot that separates them from later changes. The rows go
 * to a file at full speed: the transaction is over before the first of them is sent.
 */
export class SnapshotReader {
  readonly #parts: SnapshotReaderParts;
  readonly #queue: FairQueue;

  constructor(parts: SnapshotReaderParts) {
    this.#parts = parts;
    const { budget } = parts;
    this.#queue = new FairQueue({ ...CONCURRENT, admits: (user) => budget.hasRoom(user) });
    budget.onReturned(() => this.#queue.startWaiting());
  }

  /** How many snapshots wait for the turn of their user, or until members have read others. */
  get waitingCount(): number {
    return this.#queue.waitingCount;
  }

  /**
   * Reads when it is the user's turn and there is room for the rows; `prepare` is called then. Throws DB_SUBSCRIPTION_FAILED
   * if there are too many rows, PostgreSQL refuses the query or the rows cannot be stored, DATABASE_UNAVAILABLE if no
   * consistent snapshot was found, the reason of the caller's signal when that aborts.
   */
  read(prepare: () => Promise<SnapshotQuery>, { user, signal }: SnapshotCaller): Promise<TableSnapshot> {
    const { budget, files } = this.#parts;
    const work = async () => {
      const reservation = budget.reserve(user);
      const pages = new SnapshotPages({ reservation, files, memoryBytes: MEMORY_BYTES });
      try {
        const seen = await this.#read(await prepare(), pages, signal);
        pages.settle();
        return { seen, pages };
      } catch (error) {
        pages.close();
        throw error;
      }
    };
    return this.#queue.run(user, work, signal);
  }

  async #read(query: SnapshotQuery, pages: SnapshotPages, signal: AbortSignal): Promise<RowSnapshot> {
    try {
      for (let attempt = 0; attempt < MAX_ATTEMPTS; attempt++) {
        const seen = await this.#attempt(query, pages, signal);
        if (seen !== undefined) return seen;
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
   * Returns undefined, and has read nothing, if the SELECT would see a transaction as running that the stream has brought
   * already: its changes would be in neither the rows nor the changes after them.
   */
  async #attempt(
    query: SnapshotQuery,
    pages: SnapshotPages,
    signal: AbortSignal,
  ): Promise<RowSnapshot | undefined> {
    const { database, isRead, transactionMs } = this.#parts;
    const deadline = new AbortController();
    let timer: NodeJS.Timeout | undefined;
    const read = async (sql: Sql) => {
      timer = setTimeout(() => deadline.abort(new StatementTimeout()), transactionMs);
      await sql.query(
        `SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY; SET LOCAL statement_timeout = ${transactionMs}`,
      );
      const [row] = await sql.query<{ seen: string }>('SELECT pg_current_snapshot()::text AS seen');
      const seen = new RowSnapshot(row?.seen ?? '');
      if (seen.running.some(isRead)) return undefined;
      await this.#writeRows(sql, query, pages);
      return seen;
    };
    const either = AbortSignal.any([signal, deadline.signal]);
    try {
      return await database.transaction(read, { signal: either, limitMs: STATEMENT_LIMIT_MS });
    } finally {
      clearTimeout(timer);
    }
  }

  async #writeRows(sql: Sql, query: SnapshotQuery, pages: SnapshotPages): Promise<void> {
    const { table, privileges, viewer, columns, condition } = query;
    const selected = table.columns.filter(
      ({ name, generated }) =>
        generated === null &&
        privileges.columns.has(name) &&
        (columns === undefined || columns.includes(name)),
    );
    const formats = new ValueFormats(sql);
    await formats.load(selected.map(({ typeOid }) => typeOid));
    await sql.query(...settingsStatement(viewer));
    if (this.#parts.enableRls) await sql.query(`SET LOCAL ROLE ${quoted(viewer.role)}`);
    await writePages(sql, { table, columns: selected, condition, formats }, pages);
  }
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
