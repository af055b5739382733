import { describe, expect, it } from 'vitest';
import { type ClientLog, check, type Entry, type TrueChange } from './checker.js';

/** A hundred changes in transactions of four, of two users in turn. */
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
const verdict = (...entries: Entry[]) => {
  const log: ClientLog = { name: 'c', user: 'ada', entries };
  return check(TRUTH, [log]).map(({ invariant }) => invariant);
};

describe('a client', () => {
  it('that saw everything once and in order is fine, however often it went', () => {
    expect(verdict(START, ...changes(0, 50))).toEqual([]);
    expect(verdict(START, ...changes(0, 20), resumed(20), ...changes(20, 50))).toEqual([]);
    // It had seen more than it had kept.
    expect(verdict(START, ...changes(0, 20), resumed(12), ...changes(12, 50))).toEqual([]);
  });

  it('that begins later has no right to what was before', () => {
    const late: Entry = { kind: 'connected', cursor: cursorOf(own[9] as TrueChange), recovered: false };
    expect(verdict(late, ...changes(10, 50))).toEqual([]);
  });

  it('that lost one, in the middle, at a resume or at the end, is found', () => {
    expect(verdict(START, ...changes(0, 20), ...changes(21, 50))).toEqual(['I1']);
    expect(verdict(START, ...changes(0, 20), resumed(20), ...changes(21, 50))).toEqual(['I1']);
    expect(verdict(START, ...changes(0, 49))).toEqual(['I1']);
    expect(verdict(START, ...changes(1, 50))).toEqual(['I1']);
  });

  it('that got one twice is found', () => {
    expect(verdict(START, ...changes(0, 20), ...changes(19, 50))).toEqual(['I3']);
    expect(verdict(START, ...changes(0, 20), resumed(20), ...changes(19, 50))).toEqual(['I3']);
  });

  it('that got two in the wrong order is found', () => {
    const swapped = [...changes(0, 20), ...changes(21, 22), ...changes(20, 21), ...changes(22, 50)];
    expect(verdict(START, ...swapped)).toEqual(['I1', 'I2']);
    expect(verdict(START, ...changes(0, 20), ...changes(5, 6), ...changes(20, 50))).toEqual(['I2']);
  });

  it('may miss what a gap was told before, and nothing else', () => {
    const gap: Entry = { kind: 'gap' };
    expect(verdict(START, ...changes(0, 20), gap, ...changes(30, 50))).toEqual([]);
    expect(verdict(START, ...changes(0, 20), gap)).toEqual([]);
    // Told too late.
    expect(verdict(START, ...changes(0, 20), ...changes(30, 40), gap, ...changes(40, 50))).toEqual(['I1']);
    const refused: Entry = { ...resumed(20), recovered: false } as Entry;
    expect(verdict(START, ...changes(0, 20), refused, ...changes(30, 50))).toEqual(['I1']);
    expect(verdict(START, ...changes(0, 20), refused, gap, ...changes(30, 50))).toEqual([]);
  });

  it("that got another user's row, or one that nobody wrote, is found", () => {
    const foreign = TRUTH[1] as TrueChange;
    const change = (cursor: string, what: string): Entry => ({ kind: 'change', cursor, what });
    expect(verdict(START, change(cursorOf(foreign), foreign.what), ...changes(0, 50))).toEqual(['I8']);
    expect(verdict(START, change('e:0/2/0', 'INSERT 1/1'), ...changes(0, 50))).toEqual(['I8']);
    const [first, ...rest] = changes(0, 50);
    expect(verdict(START, { ...first, what: 'DELETE 1/0' } as Entry, ...rest)).toEqual(['I8']);
  });
});
