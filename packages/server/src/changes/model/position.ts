import { formatLsn, parseLsn } from '../../postgres/sql/lsn.js';

/**
 * Orders all changes by commit. Changes of concurrent transactions interleave in the WAL, and COPY gives many
 * rows one LSN, so that the LSN of a single change says nothing about its order.
 */
export interface Position {
  /** The LSN of the transaction's commit record (Begin.final_lsn). */
  readonly commitLsn: bigint;
  /**
   * The number of the change within its transaction, from 0, counted over everything that the source sent.
   */
  readonly index: number;
}

/** Returns a negative number where `a` comes before `b`. */
export function comparePositions(a: Position, b: Position): number {
  if (a.commitLsn !== b.commitLsn) return a.commitLsn < b.commitLsn ? -1 : 1;
  return a.index - b.index;
}

/** Returns the later of two positions. */
export function laterPosition(a: Position, b: Position): Position {
  return comparePositions(a, b) < 0 ? b : a;
}

/**
 * Returns the position just before everything that commits at `lsn` or later. A commit record is longer than
 * a byte.
 */
export function positionBefore(lsn: bigint): Position {
  return { commitLsn: lsn === 0n ? 0n : lsn - 1n, index: 0 };
}

/** Returns the position just before a change. */
export function positionBeforeChange({ commitLsn, index }: Position): Position {
  return index === 0 ? positionBefore(commitLsn) : { commitLsn, index: index - 1 };
}

/** A position within one change epoch. Clients keep it as text and resume from it. */
export interface Cursor {
  readonly epoch: string;
  readonly position: Position;
}

const CURSOR = /^([a-z0-9]{1,32}):([0-9A-F]{1,8}\/[0-9A-F]{1,8})\/(\d{1,10})$/;

/** Formats a cursor as `<epoch>:<commit LSN>/<index>`. */
export function formatCursor({ epoch, position }: Cursor): string {
  return `${epoch}:${formatPosition(position)}`;
}

/** Returns undefined for a text that is no cursor. */
export function parseCursor(text: string): Cursor | undefined {
  const [, epoch, lsn, index] = CURSOR.exec(text) ?? [];
  if (epoch === undefined || lsn === undefined || index === undefined) return undefined;
  return { epoch, position: { commitLsn: parseLsn(lsn), index: Number(index) } };
}

/** Formats a position as `<commit LSN>/<index>`. */
export function formatPosition({ commitLsn, index }: Position): string {
  return `${formatLsn(commitLsn)}/${index}`;
}

/** Parses the text of `formatPosition`; throws for any other. */
export function parsePosition(text: string): Position {
  const cursor = parseCursor(`x:${text}`);
  if (cursor === undefined) throw new Error(`Not a position: ${text}`);
  return cursor.position;
}
