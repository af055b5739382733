/** A change as PostgreSQL committed it: its place in the order of all, and what it is. */
export interface TrueChange {
  readonly lsn: bigint;
  readonly index: number;
  /** `INSERT 3/17`: the operation and the row's key. */
  readonly what: string;
  /** Whose row it is: nobody else may see it. */
  readonly user: string;
}

/** What happened to a client, in its own order. */
export type Entry =
  | {
      readonly kind: 'connected';
      /** What it came back with. */
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

/** Something that must not be. */
export interface Violation {
  readonly client: string;
  /** Of `rules`: I1 loss, I2 order, I3 repeat, I6 a gap that nobody told, I8 a row that is not theirs, or not a row at all. */
  readonly invariant: 'I1' | 'I2' | 'I3' | 'I6' | 'I8';
  readonly text: string;
}

interface Place {
  readonly lsn: bigint;
  readonly index: number;
}

/**
 * Holds what clients saw against what PostgreSQL committed: behind the place that a connection begins at, every change of the
 * client's rows must come, each once, in the order of commits, until the end, unless a gap was told before.
 */
export function check(truth: readonly TrueChange[], logs: readonly ClientLog[]): Violation[] {
  return logs.flatMap((log) => checkClient(truth, log));
}

function checkClient(truth: readonly TrueChange[], { name, user, entries }: ClientLog): Violation[] {
  const violations: Violation[] = [];
  const found = (invariant: Violation['invariant'], text: string) =>
    violations.push({ client: name, invariant, text });
  const own = truth.filter((change) => change.user === user);
  const numbers = new Map(own.map((change, n) => [placeText(change), n]));
  const others = new Set(truth.filter((change) => change.user !== user).map(placeText));
  /** The number of the next change that is due; undefined: any, since a gap was told, or the beginning is not known. */
  let due: number | undefined;
  for (const entry of entries) {
    if (entry.kind === 'gap') due = undefined;
    else if (entry.kind === 'connected') {
      // One that is not taken back where it was must be told of a gap, which comes behind this.
      const from = entry.asked ?? entry.cursor;
      due = from === undefined ? undefined : firstBehind(own, from);
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
        found(number === due - 1 ? 'I3' : 'I2', `${entry.what} at ${at} came again, or too late`);
      due = Math.max(number + 1, due ?? 0);
    }
  }
  if (due !== undefined && due < own.length) found('I1', `the last ${own.length - due} changes never came`);
  return violations;
}

function firstBehind(changes: readonly TrueChange[], cursor: string): number {
  const place = placeOf(cursor);
  const number = changes.findIndex(
    ({ lsn, index }) => lsn > place.lsn || (lsn === place.lsn && index > place.index),
  );
  return number === -1 ? changes.length : number;
}

function placeOf(cursor: string): Place {
  const [, high, low, index] = /:([0-9A-F]+)\/([0-9A-F]+)\/(\d+)$/.exec(cursor) ?? [];
  return { lsn: (BigInt(`0x${high}`) << 32n) | BigInt(`0x${low}`), index: Number(index) };
}

function placeText({ lsn, index }: Place): string {
  const high = (lsn >> 32n).toString(16).toUpperCase();
  return `${high}/${(lsn & 0xffff_ffffn).toString(16).toUpperCase()}/${index}`;
}
