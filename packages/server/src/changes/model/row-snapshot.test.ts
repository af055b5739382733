import { describe, expect, it } from 'vitest';
import { RowSnapshot } from './row-snapshot.js';

const EPOCH = 1n << 32n;

describe('what a SELECT saw', () => {
  it('is what had ended before it, but not what was running or came later', () => {
    const seen = new RowSnapshot('100:110:100,105');
    expect([99, 101, 109].map((xid) => seen.sees(xid))).toEqual([true, true, true]);
    expect([100, 105, 110, 111].map((xid) => seen.sees(xid))).toEqual([false, false, false, false]);
    expect(seen.running).toEqual([100, 105]);
    expect(new RowSnapshot('7:7:').running).toEqual([]);
  });

  it('holds where the numbers of the log begin anew', () => {
    const seen = new RowSnapshot(`${EPOCH - 5n}:${EPOCH + 5n}:${EPOCH - 5n},${EPOCH + 2n}`);
    expect(seen.running).toEqual([0xffff_fffb, 2]);
    expect([0xffff_fff0, 0xffff_fffc, 1, 4].map((xid) => seen.sees(xid))).toEqual([true, true, true, true]);
    expect([0xffff_fffb, 2, 5, 1_000].map((xid) => seen.sees(xid))).toEqual([false, false, false, false]);
    const far = new RowSnapshot(`${3n * EPOCH + 10n}:${3n * EPOCH + 10n}:`);
    expect([9, 10, 0xffff_ffff].map((xid) => far.sees(xid))).toEqual([true, false, true]);
  });
});
