import type { SinkMemo } from '../../postgres/source/change-source.js';
import { formatPosition, parsePosition } from '../model/position.js';
import type { Forgotten } from './resume-log.js';

/** Writes what the resume log has forgotten as JSON: the newest position by table oid. */
export function memoOf(forgotten: Forgotten): SinkMemo {
  return Object.fromEntries([...forgotten].map(([oid, position]) => [String(oid), formatPosition(position)]));
}

/** Reads the memo of `memoOf`. */
export function forgottenOf(memo: SinkMemo): Forgotten {
  return new Map(Object.entries(memo).map(([oid, text]) => [Number(oid), parsePosition(text)]));
}
