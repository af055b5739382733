import type { WalBegin, WalColumn, WalRelation } from '../source/change-source.js';
import type { Lsn } from '../sql/lsn.js';

/**
 * A message of the output plugin pgoutput, protocol version 1 (PostgreSQL manual, "Logical Replication
 * Message Formats"). Row values of changes stay undecoded bytes: `readChange` decodes them when they are
 * needed.
 */
export type PgOutputMessage =
  | { readonly kind: 'begin'; readonly begin: WalBegin }
  | { readonly kind: 'commit'; readonly commitLsn: Lsn; readonly endLsn: Lsn }
  | { readonly kind: 'relation'; readonly relation: WalRelation }
  | { readonly kind: 'insert' | 'update' | 'delete'; readonly relationOid: number }
  | { readonly kind: 'truncate'; readonly relationOids: readonly number[] }
  | { readonly kind: 'message'; readonly prefix: string; readonly content: Buffer }
  /** Types and origins, which the server does not need. */
  | { readonly kind: 'other' };

/**
 * One row version, in the column order of its relation: text values, null for NULL, undefined for unknown
 * values.
 */
type Row = (string | null | undefined)[];

/** The row versions of a change. Where the replica identity is a key, `old` has only the key columns. */
export interface ChangeRows {
  readonly old: Row | undefined;
  readonly new: Row | undefined;
  /** The columns, by index, with values beyond `MAX_DECODED_BYTES`, if any: these are not decoded, and unknown. */
  readonly tooLarge?: { readonly old: ReadonlySet<number>; readonly new: ReadonlySet<number> };
}

/**
 * How much of a row version is decoded, in bytes. As JSON, with six characters for one, that still fits into a string of
 * V8. Values that fit are decoded; of several large ones, the first.
 */
const MAX_DECODED_BYTES = 64 * 1024 * 1024;

/** Microseconds from 1970-01-01 to 2000-01-01, the epoch of PostgreSQL. */
const POSTGRES_EPOCH_US = 946_684_800_000_000n;

const DELETE = code('D');
const CHANGES: ReadonlyMap<number, 'insert' | 'update' | 'delete'> = new Map([
  [code('I'), 'insert'],
  [code('U'), 'update'],
  [DELETE, 'delete'],
]);
const [BEGIN, COMMIT, RELATION, TRUNCATE, MESSAGE] = [code('B'), code('C'), code('R'), code('T'), code('M')];
const [NEW, OLD, KEY] = [code('N'), code('O'), code('K')];
const [NULL, UNCHANGED, TEXT] = [code('n'), code('u'), code('t')];

/** Decodes a message. Throws for an unknown message type. */
export function readMessage(bytes: Buffer): PgOutputMessage {
  const kind = bytes[0] ?? 0;
  const change = CHANGES.get(kind);
  if (change !== undefined) return { kind: change, relationOid: bytes.readUInt32BE(1) };
  switch (kind) {
    case BEGIN:
      return {
        kind: 'begin',
        begin: {
          commitLsn: bytes.readBigUInt64BE(1),
          commitTime: bytes.readBigInt64BE(9) + POSTGRES_EPOCH_US,
          xid: bytes.readUInt32BE(17),
        },
      };
    case COMMIT:
      return { kind: 'commit', commitLsn: bytes.readBigUInt64BE(2), endLsn: bytes.readBigUInt64BE(10) };
    case RELATION:
      return { kind: 'relation', relation: readRelation(bytes) };
    case TRUNCATE: {
      const count = bytes.readUInt32BE(1);
      return {
        kind: 'truncate',
        relationOids: Array.from({ length: count }, (_, n) => bytes.readUInt32BE(6 + 4 * n)),
      };
    }
    case MESSAGE: {
      const end = bytes.indexOf(0, 10);
      const length = bytes.readUInt32BE(end + 1);
      return {
        kind: 'message',
        prefix: bytes.toString('utf8', 10, end),
        content: bytes.subarray(end + 5, end + 5 + length),
      };
    }
    case code('Y'):
    case code('O'):
      return { kind: 'other' };
    default:
      throw new Error(`unknown pgoutput message ${JSON.stringify(String.fromCharCode(kind))}`);
  }
}

/**
 * Decodes the row versions of a change from the message between `start` and `end`. An unchanged TOAST value
 * is taken from the old version under REPLICA IDENTITY FULL, and is undefined (unknown) otherwise. In an old
 * version that is a key, all other columns are unknown, although the WAL has NULL there. Throws when the
 * message is truncated or does not match `relation`.
 */
export function readChange(bytes: Buffer, relation: WalRelation, start = 0, end = bytes.length): ChangeRows {
  const { columns } = relation;
  const tooLarge =
    end - start > MAX_DECODED_BYTES ? { old: new Set<number>(), new: new Set<number>() } : undefined;
  let at = start + 5;
  let old: Row | undefined;
  const tag = bytes[at];
  let isKey = false;
  if (tag === OLD || tag === KEY) {
    isKey = tag === KEY;
    old = [];
    at = readTuple(bytes, at + 1, end, old, columns.length, tooLarge?.old);
    if (isKey) clearNonKeyColumns(old, columns);
  }
  if (at >= end || bytes[at] !== NEW) {
    if (bytes[start] !== DELETE || old === undefined) throw new Error('the change has no row');
    return tooLarge === undefined ? { old, new: undefined } : { old, new: undefined, tooLarge };
  }
  const row: Row = [];
  readTuple(bytes, at + 1, end, row, columns.length, tooLarge?.new);
  if (old !== undefined && !isKey) {
    for (let n = 0; n < row.length; n++) {
      if (row[n] !== undefined || tooLarge?.new.has(n) === true) continue;
      row[n] = old[n];
      if (tooLarge?.old.has(n) === true) tooLarge.new.add(n);
    }
  }
  return tooLarge === undefined ? { old, new: row } : { old, new: row, tooLarge };
}

/** Decodes a tuple into `row`, and the indexes of values that are too large into `tooLarge`. Returns the position of its end. */
function readTuple(
  bytes: Buffer,
  start: number,
  limit: number,
  row: Row,
  expected: number,
  tooLarge: Set<number> | undefined,
): number {
  const count = bytes.readUInt16BE(start);
  let left = MAX_DECODED_BYTES;
  if (count !== expected) throw new Error(`the row has ${count} columns, its relation ${expected}`);
  let at = start + 2;
  for (let n = 0; n < count; n++) {
    const tag = bytes[at];
    at += 1;
    if (tag === TEXT) {
      const length = bytes.readUInt32BE(at);
      at += 4;
      if (at + length > limit) throw new Error('truncated column value');
      if (length > left) {
        tooLarge?.add(n);
        row.push(undefined);
      } else {
        left -= length;
        row.push(bytes.toString('utf8', at, at + length));
      }
      at += length;
    } else if (tag === NULL) row.push(null);
    else if (tag === UNCHANGED) row.push(undefined);
    else throw new Error('unknown kind of column value');
  }
  if (at > limit) throw new Error('truncated row');
  return at;
}

function clearNonKeyColumns(row: Row, columns: readonly WalColumn[]): void {
  for (let n = 0; n < row.length; n++) if (columns[n]?.isKey !== true) row[n] = undefined;
}

function readRelation(bytes: Buffer): WalRelation {
  const oid = bytes.readUInt32BE(1);
  let at = 5;
  const text = () => {
    const end = bytes.indexOf(0, at);
    const found = bytes.toString('utf8', at, end);
    at = end + 1;
    return found;
  };
  const schema = text();
  const name = text();
  const identity = identityOf(bytes[at]);
  const count = bytes.readUInt16BE(at + 1);
  at += 3;
  const columns: WalColumn[] = [];
  for (let n = 0; n < count; n++) {
    const isKey = ((bytes[at] ?? 0) & 1) === 1;
    at += 1;
    const column = text();
    columns.push({
      name: column,
      typeOid: bytes.readUInt32BE(at),
      typeModifier: bytes.readInt32BE(at + 4),
      isKey,
    });
    at += 8;
  }
  // PostgreSQL sends an empty schema name for pg_catalog.
  return { oid, schema: schema === '' ? 'pg_catalog' : schema, name, identity, columns };
}

function identityOf(tag: number | undefined): WalRelation['identity'] {
  return (['f', 'i', 'n'] as const).find((letter) => code(letter) === tag) ?? 'd';
}

function code(letter: string): number {
  return letter.charCodeAt(0);
}
