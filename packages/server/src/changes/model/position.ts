import { formatLsn, parseLsn } from '../../postgres/sql/lsn.js';

/** A place in the order of all changes: the commit of its transaction, and its place in that. */
export interface Position {
  readonly commitLsn: bigint;
  readonly index: number;
}

/** Below 0 where `a` comes first. */
export function comparePositions(a: Position, b: Position): number {
  if (a.commitLsn !== b.commitLsn) return a.commitLsn < b.commitLsn ? -1 : 1;
  return a.index - b.index;
}

/** The later of two places. */
export function laterOf(a: Position, b: Position): Position {
  return comparePositions(a, b) < 0 ? b : a;
}

/** Right before everything that commits at `lsn` or later: no commit record is as short as a byte. */
export function positionBefore(lsn: bigint): Position {
  return { commitLsn: lsn === 0n ? 0n : lsn - 1n, index: 0 };
}

/** A position in one history of changes, as clients keep it. */
export interface Cursor {
  readonly epoch: string;
  readonly position: Position;
}

const CURSOR = /^([a-z0-9]{1,32}):([0-9A-F]{1,8}\/[0-9A-F]{1,8})\/(\d{1,10})$/;

/** `<epoch>:<commit LSN>/<index>` */
export function formatCursor({ epoch, position }: Cursor): string {
  return `${epoch}:${formatPosition(position)}`;
}

/** Undefined for what is none. */
export function parseCursor(text: string): Cursor | undefined {
  const [, epoch, lsn, index] = CURSOR.exec(text) ?? [];
  if (epoch === undefined || lsn === undefined || index === undefined) return undefined;
  return { epoch, position: { commitLsn: parseLsn(lsn), index: Number(index) } };
}

/** `<commit LSN>/<index>` */
export function formatPosition({ commitLsn, index }: Position): string {
  return `${formatLsn(commitLsn)}/${index}`;
}

/** The reverse; throws for what `formatPosition` did not make. */
export function parsePosition(text: string): Position {
  const cursor = parseCursor(`x:${text}`);
  if (cursor === undefined) throw new Error(`${text} is no position`);
  return cursor.position;
}
