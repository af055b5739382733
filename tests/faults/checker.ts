/** A change as PostgreSQL committed it: its position in the WAL, and what it did. */
export interface TrueChange {
  readonly lsn: bigint;
  readonly index: number;
  /** `INSERT 3/17`: the operation and the row's key. */
  readonly what: string;
  /** The owner of the row: no other user may see it. */
  readonly user: string;
}

/** An event of a client, in the order in which the client saw it. */
export type Entry =
  | {
      readonly kind: 'connected';
      /** The cursor that the client sent to resume. */
      readonly asked?: string;
      readonly cursor?: string;
      readonly recovered: boolean;
    }
  | { readonly kind: 'gap' }
  | { readonly kind: 'change'; readonly cursor: string; readonly what: string };

export interface ClientLog {
  readonly name: string;
  readonly user: string;
  readonly entries: readonly Entry[];
}

/** A broken invariant. */
export interface Violation {
  readonly client: string;
  /**
   * I1: a lost change. I2: a change out of order. I3: a change delivered twice. I6: an unreported gap. I8:
   * another user's change, or one that was never committed.
   */
  readonly invariant: 'I1' | 'I2' | 'I3' | 'I6' | 'I8';
  readonly text: string;
}

interface Position {
  readonly lsn: bigint;
  readonly index: number;
}

/**
 * Compares what clients received with what PostgreSQL committed. After the position at which a connection
 * starts, a client must receive every change of its rows, once, in commit order, up to the end. A reported
 * gap excuses what is missing after it.
 */
export function check(truth: readonly TrueChange[], logs: readonly ClientLog[]): Violation[] {
  return logs.flatMap((log) => checkClient(truth, log));
}

function checkClient(truth: readonly TrueChange[], { name, user, entries }: ClientLog): Violation[] {
  const violations: Violation[] = [];
  const found = (invariant: Violation['invariant'], text: string) =>
    violations.push({ client: name, invariant, text });
  const own = truth.filter((change) => change.user === user);
  const numbers = new Map(own.map((change, n) => [positionText(change), n]));
  const others = new Set(truth.filter((change) => change.user !== user).map(positionText));
  /**
   * The index of the next expected change; undefined: any, because a gap was reported or the start is
   * unknown.
   */
  let due: number | undefined;
  for (const entry of entries) {
    if (entry.kind === 'gap') due = undefined;
    else if (entry.kind === 'connected') {
      // A client that could not resume at its cursor must get a gap message, which follows `connected`.
      const from = entry.asked ?? entry.cursor;
      due = from === undefined ? undefined : firstAfter(own, from);
    } else {
      const at = entry.cursor.slice(entry.cursor.indexOf(':') + 1);
      const number = numbers.get(at);
      if (number === undefined) {
        found(
          'I8',
          `${entry.what} at ${at} is ${others.has(at) ? "another user's" : 'no change that was committed'}`,
        );
        continue;
      }
      if (own[number]?.what !== entry.what) found('I8', `${entry.what} at ${at} was ${own[number]?.what}`);
      if (due !== undefined && number > due) found('I1', `${number - due} changes are missing before ${at}`);
      if (due !== undefined && number < due)
        found(number === due - 1 ? 'I3' : 'I2', `${entry.what} at ${at} arrived twice or out of order`);
      due = Math.max(number + 1, due ?? 0);
    }
  }
  if (due !== undefined && due < own.length)
    found('I1', `the last ${own.length - due} changes never arrived`);
  return violations;
}

function firstAfter(changes: readonly TrueChange[], cursor: string): number {
  const position = positionOf(cursor);
  const number = changes.findIndex(
    ({ lsn, index }) => lsn > position.lsn || (lsn === position.lsn && index > position.index),
  );
  return number === -1 ? changes.length : number;
}

function positionOf(cursor: string): Position {
  const [, high, low, index] = /:([0-9A-F]+)\/([0-9A-F]+)\/(\d+)$/.exec(cursor) ?? [];
  return { lsn: (BigInt(`0x${high}`) << 32n) | BigInt(`0x${low}`), index: Number(index) };
}

function positionText({ lsn, index }: Position): string {
  const high = (lsn >> 32n).toString(16).toUpperCase();
  return `${high}/${(lsn & 0xffff_ffffn).toString(16).toUpperCase()}/${index}`;
}
