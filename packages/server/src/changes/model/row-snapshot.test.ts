import { describe, expect, it } from 'vitest';
import { RowSnapshot } from './row-snapshot.js';

const EPOCH = 1n << 32n;

describe('a row snapshot', () => {
  it('sees transactions that had ended, but none that was running or began later', () => {
    const snapshot = new RowSnapshot('100:110:100,105');
    expect([99, 101, 109].map((xid) => snapshot.sees(xid))).toEqual([true, true, true]);
    expect([100, 105, 110, 111].map((xid) => snapshot.sees(xid))).toEqual([false, false, false, false]);
    expect(snapshot.running).toEqual([100, 105]);
    expect(new RowSnapshot('7:7:').running).toEqual([]);
  });

  it('stays correct when the 32-bit xids of the WAL wrap around', () => {
    const snapshot = new RowSnapshot(`${EPOCH - 5n}:${EPOCH + 5n}:${EPOCH - 5n},${EPOCH + 2n}`);
    expect(snapshot.running).toEqual([0xffff_fffb, 2]);
    expect([0xffff_fff0, 0xffff_fffc, 1, 4].map((xid) => snapshot.sees(xid))).toEqual([
      true,
      true,
      true,
      true,
    ]);
    expect([0xffff_fffb, 2, 5, 1_000].map((xid) => snapshot.sees(xid))).toEqual([false, false, false, false]);
    const far = new RowSnapshot(`${3n * EPOCH + 10n}:${3n * EPOCH + 10n}:`);
    expect([9, 10, 0xffff_ffff].map((xid) => far.sees(xid))).toEqual([true, false, true]);
  });
});
