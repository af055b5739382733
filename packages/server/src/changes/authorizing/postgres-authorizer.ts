import type { Clock } from '../../lib/clock.js';
import type { Sql } from '../../postgres/sql.js';
import type { SqlSession } from '../../postgres/sql-session.js';
import {
  type Authorizer,
  type Condition,
  type Folded,
  type JudgeRequest,
  StaleFacts,
  type Verdict,
} from '../authorizer.js';
import type { Exactness, SlotLeaf } from '../compiling/compiled-expression.js';
import { NotExact } from '../compiling/not-exact.js';
import { DEFAULT_DB_ROLE, type RowContext } from '../row-context.js';
import type { RowImage } from '../row-image.js';
import { RowSnapshot } from '../row-snapshot.js';
import type { RoleRights, TableFacts } from '../table-facts.js';
import { rowArrayLiteral } from '../values/row-literal.js';
import { jsonOf } from './exact-expression.js';
import { conditionsFunction, contextsFunction, foldFunction, type JudgeFunction } from './judge-function.js';
import { JudgeSession } from './judge-session.js';
import { TableCatalog } from './table-catalog.js';

export interface PostgresAuthorizerOptions {
  readonly database: Sql & { openSession(purpose: string): Promise<SqlSession> };
  /** False: policies are not applied; rights to tables and columns are. */
  readonly enableRls: boolean;
  readonly clock: Clock;
  /** SQL for whether all changes of the table `c` are told by the stream; missing: of none. */
  readonly isStreamed?: () => string;
}

/** How long a judgement may take: of many contexts at once, and of one that was too slow among others, in ms. */
const TOGETHER_MS = 2_000;
const ALONE_MS = 1_000;
/** What was too slow alone is not asked again for so long, in ms. */
const PUNISHED_MS = 30_000;
/** How often the catalog is looked at, in ms; judgements look at it themselves. */
const CHECK_MS = 2_000;
const CONDITIONS_AT_ONCE = 50;
const CONTEXTS_AT_ONCE = 500;

interface AnswerRow {
  readonly context: number;
  readonly visible: readonly number[] | null;
  readonly failed: readonly number[] | null;
}

interface FoldedRow {
  readonly context: number;
  /** The values, and behind them the snapshot that they were read with. */
  readonly folded: readonly (string | readonly (string | null)[] | null)[] | null;
}

/** One thing that is judged: a context, or a condition. */
interface Item {
  /** Equal for what is equally slow. */
  readonly key: string;
  readonly rows: readonly number[];
}

/** Has PostgreSQL judge the rows as the log has them, many contexts and rows at once: right for every policy. */
export class PostgresAuthorizer implements Authorizer {
  readonly #catalog: TableCatalog;
  readonly #session: JudgeSession;
  readonly #database: Sql;
  /** What slots hold that depends on the context alone. */
  readonly #folded = new WeakMap<Exactness, WeakMap<RowContext, Folded | undefined>>();
  readonly #clock: Clock;
  /** What was too slow, and until when it counts as failed. */
  readonly #punished = new Map<string, number>();
  #timer: NodeJS.Timeout | undefined;

  /** `beside`: one whose catalog is used, beside which this one judges in a session of its own. */
  constructor(
    { database, enableRls, clock, isStreamed = () => 'false' }: PostgresAuthorizerOptions,
    beside?: PostgresAuthorizer,
  ) {
    this.#clock = clock;
    this.#database = database;
    this.#catalog =
      beside === undefined ? new TableCatalog(database, enableRls, isStreamed) : beside.#catalog;
    this.#session = new JudgeSession(() => database.openSession('judge'));
  }

  start(): void {
    const check = () => void this.#catalog.check().catch(() => undefined);
    this.#timer = setInterval(check, CHECK_MS).unref();
  }

  stop(): void {
    clearInterval(this.#timer);
    this.#session.close();
  }

  async facts(oid: number): Promise<TableFacts | undefined> {
    return (await this.#catalog.table(oid))?.facts;
  }

  async current(oid: number): Promise<TableFacts | undefined> {
    await this.#catalog.check([oid]);
    return this.facts(oid);
  }

  rights(table: TableFacts, role: string): Promise<RoleRights> {
    return this.#catalog.rights(table, role);
  }

  exactCondition(table: TableFacts, { sql }: Condition): Promise<Exactness> {
    return this.#catalog.condition(table, sql);
  }

  forgetAll(): void {
    this.#catalog.forgetAll();
  }

  /** Whether what was read from this table is relied on: then its changes must come. */
  isWatched(oid: number): boolean {
    return this.#catalog.watched.has(oid);
  }

  async verify(tables: readonly TableFacts[], xids: readonly number[]): Promise<void> {
    if (!(await areVisible(this.#database, xids))) throw new StaleFacts();
    if (!(await this.#catalog.check(tables.map(({ oid }) => oid)))) throw new StaleFacts();
    // What is known by now may be of a later state than these facts.
    for (const table of tables) if ((await this.facts(table.oid)) !== table) throw new StaleFacts();
  }

  async fold(
    table: TableFacts,
    role: string,
    contexts: readonly RowContext[],
  ): Promise<readonly (Folded | undefined)[]> {
    const { judging } = await this.#catalog.rights(table, role);
    if (!('compiled' in judging)) throw new Error('policies that are not compiled');
    const { slots, memberships } = judging.compiled;
    if (slots.length === 0) return contexts.map(() => NOTHING);
    // What is read from tables is another thing each time.
    if (memberships.length > 0) return this.#fold(table, role, slots, contexts);
    const known = this.#folded.get(judging) ?? new WeakMap<RowContext, Folded | undefined>();
    this.#folded.set(judging, known);
    const unknown = contexts.filter((context) => !known.has(context));
    const found = await this.#fold(table, role, slots, unknown);
    for (const [n, context] of unknown.entries()) known.set(context, found[n]);
    return contexts.map((context) => known.get(context));
  }

  async #fold(
    table: TableFacts,
    role: string,
    slots: readonly SlotLeaf[],
    contexts: readonly RowContext[],
  ): Promise<readonly (Folded | undefined)[]> {
    const { fingerprint } = this.#catalog.of(table);
    const values = slots.map(({ leaf }) => jsonOf(leaf));
    const judge = foldFunction({ facts: table, fingerprint, role }, values);
    const folded = new Map<RowContext, Folded | undefined>();
    const snapshots = new Map<string, RowSnapshot>();
    const items = contexts.map((context) => ({
      key: JSON.stringify([table.oid, 'fold', context.key]),
      context,
    }));
    const question = (asked: readonly (typeof items)[number][]) => ({
      judge,
      values: [asked.map(({ context }) => context.userId), asked.map(({ context }) => context.claims)],
    });
    for (let n = 0; n < items.length; n += CONTEXTS_AT_ONCE) {
      const asked = this.#unpunished(items.slice(n, n + CONTEXTS_AT_ONCE));
      await this.#ask<(typeof items)[number], FoldedRow>(
        table,
        asked,
        question,
        TOGETHER_MS,
        ({ context }, row) => folded.set(context, foldedOf(row, slots, snapshots)),
      );
    }
    // PostgreSQL judges those for whom it takes too long.
    return contexts.map((context) => folded.get(context));
  }

  async conditions(
    table: TableFacts,
    rows: readonly RowImage[],
    conditions: readonly Condition[],
  ): Promise<Verdict[]> {
    const { fingerprint } = this.#catalog.of(table);
    const subject = { facts: table, fingerprint, role: DEFAULT_DB_ROLE };
    const all = rows.map((_, n) => n);
    const literal = rowArrayLiteral(rows);
    const verdicts: Verdict[] = [];
    for (let n = 0; n < conditions.length; n += CONDITIONS_AT_ONCE) {
      const some = conditions.slice(n, n + CONDITIONS_AT_ONCE);
      const items = some.map(({ sql }) => ({ key: JSON.stringify([table.oid, sql]), rows: all, sql }));
      const judged = await this.#judge(table, items, (asked) => ({
        judge: conditionsFunction(
          subject,
          asked.map(({ sql }) => sql),
        ),
        values: [literal],
      }));
      verdicts.push(...judged);
    }
    return verdicts;
  }

  async judge(
    table: TableFacts,
    rows: readonly RowImage[],
    requests: readonly JudgeRequest[],
  ): Promise<Verdict[]> {
    const role = requests[0]?.context.role;
    if (role === undefined) return [];
    if (requests.some(({ context }) => context.role !== role)) throw new Error('contexts of several roles');
    const { fingerprint } = this.#catalog.of(table);
    const { predicate } = await this.#catalog.rights(table, role);
    if (predicate === null) throw new Error('a role that is not judged');
    const judge = contextsFunction({ facts: table, fingerprint, role }, predicate);
    const literal = rowArrayLiteral(rows);
    const items = requests.map(({ context, rows: own }) => ({
      key: JSON.stringify([table.oid, context.key]),
      rows: own,
      context,
    }));
    return this.#judge(table, items, (asked) => ({
      judge,
      values: [
        literal,
        asked.map(({ context }) => context.userId),
        asked.map(({ context }) => context.claims),
        asked.map(({ rows: own }) =>
          own.length === rows.length ? null : `{${own.map((row) => row + 1).join()}}`,
        ),
      ],
    }));
  }

  /** Leaves out what was too slow of late, asks for the others, and puts the answers in the order of the items. */
  async #judge<T extends Item>(
    table: TableFacts,
    items: readonly T[],
    question: (asked: readonly T[]) => { judge: JudgeFunction; values: unknown[] },
  ): Promise<Verdict[]> {
    const answers = new Map<T, Verdict>();
    await this.#ask<T, AnswerRow>(table, this.#unpunished(items), question, TOGETHER_MS, (item, row) =>
      answers.set(item, { visible: numbers(row.visible), failed: numbers(row.failed) }),
    );
    return items.map((item) => answers.get(item) ?? { visible: new Set(), failed: new Set(item.rows) });
  }

  /** Those that were not too slow of late. */
  #unpunished<T extends { readonly key: string }>(items: readonly T[]): T[] {
    const now = this.#clock();
    return items.filter(({ key }) => (this.#punished.get(key) ?? 0) <= now);
  }

  /** One question; what it takes too long on is asked alone, and the rest after it. */
  async #ask<T extends { readonly key: string }, Row extends { readonly context: number }>(
    table: TableFacts,
    asked: readonly T[],
    question: (asked: readonly T[]) => { judge: JudgeFunction; values: unknown[] },
    timeoutMs: number,
    answered: (item: T, row: Row) => void,
  ): Promise<void> {
    if (asked.length === 0) return;
    const { judge, values } = question(asked);
    const rows = await this.#session.call<Row>(judge, values, timeoutMs);
    for (const row of rows) {
      const item = asked[row.context - 1];
      if (item !== undefined) answered(item, row);
    }
    const last = rows.at(-1)?.context ?? 0;
    if (last === asked.length) return;
    if (last >= 0) {
      this.#catalog.forget(table.oid);
      throw new StaleFacts();
    }
    const slow = asked.slice(-last - 1, -last);
    const rest = asked.slice(-last);
    const [culprit] = slow;
    if (culprit !== undefined && asked.length === 1) this.#punish(culprit.key);
    else await this.#ask(table, slow, question, ALONE_MS, answered);
    await this.#ask(table, rest, question, TOGETHER_MS, answered);
  }

  #punish(key: string): void {
    const now = this.#clock();
    for (const [other, until] of this.#punished) if (until <= now) this.#punished.delete(other);
    this.#punished.set(key, now + PUNISHED_MS);
  }
}

/** What is the same for everybody. */
const NOTHING: Folded = { slots: [], asOf: new RowSnapshot('0:0:') };

/** `snapshots`: those that were read already, which are few. */
function foldedOf(
  { folded }: FoldedRow,
  slots: readonly SlotLeaf[],
  snapshots: Map<string, RowSnapshot>,
): Folded | undefined {
  if (folded === null) return undefined;
  const text = String(folded[slots.length]);
  const asOf = snapshots.get(text) ?? new RowSnapshot(text);
  snapshots.set(text, asOf);
  try {
    return { slots: slots.map(({ read }, n) => read(folded[n] ?? null)), asOf };
  } catch (error) {
    if (error instanceof NotExact) return undefined;
    throw error;
  }
}

/**
 * A commit is in the log a moment before others see what it did: whether everybody sees these transactions, by the
 * lower halves of their numbers.
 */
async function areVisible(sql: Sql, xids: readonly number[]): Promise<boolean> {
  if (xids.length === 0) return true;
  const [row] = await sql.query<{ visible: boolean }>(
    `SELECT bool_and(pg_catalog.pg_visible_in_snapshot((newest.xid - (newest.xid - given.xid) % 4294967296)::text::xid8, newest.snapshot)) AS visible
     FROM (SELECT s AS snapshot, pg_catalog.pg_snapshot_xmax(s)::text::numeric AS xid FROM pg_catalog.pg_current_snapshot() s) newest,
       unnest($1::numeric[]) AS given(xid) WHERE given.xid <= newest.xid`,
    [xids],
  );
  return row?.visible !== false;
}

/** Places from 0 of numbers from 1. */
function numbers(from: readonly number[] | null): ReadonlySet<number> {
  return new Set((from ?? []).map((row) => row - 1));
}
