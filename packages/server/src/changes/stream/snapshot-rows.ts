import { ProtocolError } from '@goforward/realtime-protocol';
import { quoted } from '../../postgres/sql/identifier.js';
import { recordFields } from '../../postgres/sql/record-text.js';
import type { Sql } from '../../postgres/sql/sql.js';
import type { TableFacts } from '../model/table-facts.js';
import { JsonRecordWriter } from '../values/json-record-writer.js';
import type { ValueFormats } from '../values/value-formats.js';
import type { Condition } from '../visibility/authorizer.js';
import { SNAPSHOT_LIMITS } from './snapshot-budget.js';
import type { SnapshotPages } from './snapshot-pages.js';

/** The rows to read. */
export interface RowSelection {
  readonly table: TableFacts;
  /** The columns to read, whose types are loaded in `formats`. */
  readonly columns: readonly { readonly name: string; readonly typeOid: number }[];
  readonly condition: Condition | null;
  readonly formats: ValueFormats;
}

const MAX_ROWS = 10_000;
const PAGE_ROWS = 200;
/** A member reads a page of this size in two seconds at the least. */
const PAGE_BYTES = 64 * 1024;
/** What one FETCH should bring, once the size of the rows is known; the rows of the first FETCH are few. */
const FETCH_BYTES = 256 * 1024;
const FIRST_ROWS = 25;
/** A row's text can be twice as long as its JSON, since it repeats quotes and backslashes. */
const MAX_TEXT_BYTES = 2 * SNAPSHOT_LIMITS.perSnapshot;

/** Reads rows in the transaction of `sql`, and appends them as pages. Throws DB_SUBSCRIPTION_FAILED if they are too many. */
export async function writePages(
  sql: Sql,
  selection: RowSelection,
  pages: Pick<SnapshotPages, 'append' | 'bytes'>,
): Promise<void> {
  const { columns, formats } = selection;
  const writer = new JsonRecordWriter(columns, [...columns.keys()], formats);
  let page: string[] = [];
  let pageBytes = 0;
  let rows = 0;
  const append = async () => {
    const bytes = Buffer.from(page.join());
    if (pages.bytes + bytes.length > SNAPSHOT_LIMITS.perSnapshot) throw snapshotTooLarge();
    await pages.append(bytes);
    page = [];
    pageBytes = 0;
  };
  for await (const images of rowsOf(sql, selection)) {
    for (const image of images) {
      rows += 1;
      if (rows > MAX_ROWS) throw snapshotTooLarge();
      const json = writer.json(image);
      if (page.length > 0 && (page.length >= PAGE_ROWS || pageBytes + json.length > PAGE_BYTES))
        await append();
      page.push(json);
      pageBytes += json.length;
    }
  }
  await append();
}

/** Fetches rows, about `FETCH_BYTES` at once: rows can be large, and several snapshots are read at a time. */
async function* rowsOf(
  sql: Sql,
  { table, columns, condition, formats }: RowSelection,
): AsyncGenerator<(string | null)[][]> {
  await sql.query(cursorOf(table, columns, condition));
  const relation = {
    oid: 0,
    schema: '',
    name: '',
    identity: 'n' as const,
    columns: columns.map((column) => ({ ...column, typeModifier: -1, isKey: false })),
  };
  let rows = 0;
  let bytes = 0;
  for (let wanted = FIRST_ROWS; ; wanted = rowsWithin(FETCH_BYTES, bytes / rows)) {
    const fetched = await sql.query<{ row: string | null }>(`FETCH ${wanted} FROM "gf$rows"`);
    const texts = fetched.flatMap(({ row }) => (row === null ? [] : [row]));
    if (texts.length < fetched.length) throw snapshotTooLarge();
    rows += texts.length;
    for (const text of texts) bytes += text.length;
    const images = texts.map(recordFields);
    formats.beginRows();
    await formats.convert(relation, images);
    yield images;
    if (fetched.length < wanted) return;
  }
}

function rowsWithin(bytes: number, rowBytes: number): number {
  return Math.min(Math.max(Math.floor(bytes / rowBytes), 1), PAGE_ROWS);
}

/**
 * Returns the statement that opens the cursor. A row beyond the limit is null: PostgreSQL does not send its text. OFFSET 0
 * keeps the planner from computing the text several times.
 */
function cursorOf(table: TableFacts, columns: RowSelection['columns'], condition: Condition | null): string {
  const fields = columns.map(({ name }) => quoted(name)).join(', ');
  const from = `${quoted(table.schema)}.${quoted(table.name)} AS ${quoted(table.name)}`;
  const where = condition === null ? '' : `WHERE ${condition.sql}`;
  const texts = `SELECT ROW(${fields})::text AS row FROM ${from} ${where} OFFSET 0`;
  const soFar = 'sum(octet_length(row)) OVER (ROWS UNBOUNDED PRECEDING)';
  return `DECLARE "gf$rows" NO SCROLL CURSOR FOR SELECT CASE WHEN ${soFar} <= ${MAX_TEXT_BYTES} THEN row END AS row FROM (${texts}) AS texts`;
}

function snapshotTooLarge(): ProtocolError {
  return new ProtocolError('DB_SUBSCRIPTION_FAILED', {
    details: `A snapshot has at most ${MAX_ROWS} rows and ${SNAPSHOT_LIMITS.perSnapshot / 1024 / 1024} MB: add a condition, or select fewer columns.`,
  });
}
