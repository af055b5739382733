import { describe, expect, it } from 'vitest';
import { type ClientLog, check, type Entry, type TrueChange } from './checker.js';

/** A hundred changes in transactions of four; the two users own rows alternately. */
const TRUTH: readonly TrueChange[] = Array.from({ length: 100 }, (_, n) => ({
  lsn: BigInt(0x1000 + 16 * Math.floor(n / 4)),
  index: n % 4,
  what: `INSERT 1/${n}`,
  user: n % 2 === 0 ? 'ada' : 'bob',
}));
const cursorOf = ({ lsn, index }: TrueChange) => `e:0/${lsn.toString(16).toUpperCase()}/${index}`;
const own = TRUTH.filter(({ user }) => user === 'ada');
const START: Entry = { kind: 'connected', cursor: 'e:0/FFF/0', recovered: false };
const changes = (from: number, to: number): Entry[] =>
  own.slice(from, to).map((change) => ({ kind: 'change', cursor: cursorOf(change), what: change.what }));
const resumed = (seen: number): Entry => ({
  kind: 'connected',
  asked: cursorOf(own[seen - 1] as TrueChange),
  cursor: cursorOf(own[seen - 1] as TrueChange),
  recovered: true,
});
const violationsOf = (...entries: Entry[]) => {
  const log: ClientLog = { name: 'c', user: 'ada', entries };
  return check(TRUTH, [log]).map(({ invariant }) => invariant);
};

describe('the checker of the fault tests', () => {
  it('accepts a client that received everything once and in order, also across reconnects', () => {
    expect(violationsOf(START, ...changes(0, 50))).toEqual([]);
    expect(violationsOf(START, ...changes(0, 20), resumed(20), ...changes(20, 50))).toEqual([]);
    // The client had received more than the cursor that it stored covers.
    expect(violationsOf(START, ...changes(0, 20), resumed(12), ...changes(12, 50))).toEqual([]);
  });

  it('accepts that a client misses changes from before its start', () => {
    const late: Entry = { kind: 'connected', cursor: cursorOf(own[9] as TrueChange), recovered: false };
    expect(violationsOf(late, ...changes(10, 50))).toEqual([]);
  });

  it('finds a lost change in the middle, at a resume and at the end', () => {
    expect(violationsOf(START, ...changes(0, 20), ...changes(21, 50))).toEqual(['I1']);
    expect(violationsOf(START, ...changes(0, 20), resumed(20), ...changes(21, 50))).toEqual(['I1']);
    expect(violationsOf(START, ...changes(0, 49))).toEqual(['I1']);
    expect(violationsOf(START, ...changes(1, 50))).toEqual(['I1']);
  });

  it('finds a change that was delivered twice', () => {
    expect(violationsOf(START, ...changes(0, 20), ...changes(19, 50))).toEqual(['I3']);
    expect(violationsOf(START, ...changes(0, 20), resumed(20), ...changes(19, 50))).toEqual(['I3']);
  });

  it('finds changes that were delivered in the wrong order', () => {
    const swapped = [...changes(0, 20), ...changes(21, 22), ...changes(20, 21), ...changes(22, 50)];
    expect(violationsOf(START, ...swapped)).toEqual(['I1', 'I2']);
    expect(violationsOf(START, ...changes(0, 20), ...changes(5, 6), ...changes(20, 50))).toEqual(['I2']);
  });

  it('accepts missing changes after a gap message, and no others', () => {
    const gap: Entry = { kind: 'gap' };
    expect(violationsOf(START, ...changes(0, 20), gap, ...changes(30, 50))).toEqual([]);
    expect(violationsOf(START, ...changes(0, 20), gap)).toEqual([]);
    // The gap message comes too late.
    expect(violationsOf(START, ...changes(0, 20), ...changes(30, 40), gap, ...changes(40, 50))).toEqual([
      'I1',
    ]);
    const refused: Entry = { ...resumed(20), recovered: false } as Entry;
    expect(violationsOf(START, ...changes(0, 20), refused, ...changes(30, 50))).toEqual(['I1']);
    expect(violationsOf(START, ...changes(0, 20), refused, gap, ...changes(30, 50))).toEqual([]);
  });

  it("finds another user's change, and a change that was never committed", () => {
    const foreign = TRUTH[1] as TrueChange;
    const change = (cursor: string, what: string): Entry => ({ kind: 'change', cursor, what });
    expect(violationsOf(START, change(cursorOf(foreign), foreign.what), ...changes(0, 50))).toEqual(['I8']);
    expect(violationsOf(START, change('e:0/2/0', 'INSERT 1/1'), ...changes(0, 50))).toEqual(['I8']);
    const [first, ...rest] = changes(0, 50);
    expect(violationsOf(START, { ...first, what: 'DELETE 1/0' } as Entry, ...rest)).toEqual(['I8']);
  });
});
