import { beforeEach, describe, expect, it } from 'vitest';
import type { Channel } from '../../channels/channel.js';
import type { Folded } from '../authorizer.js';
import type { Compiled } from '../compiling/compiled-expression.js';
import { familyOf } from '../compiling/exact-values.js';
import { ExactRow, listOf } from '../compiling/predicate.js';
import { RowSnapshot } from '../row-snapshot.js';
import type { ChangeBatch } from './decoded-change.js';
import { RoleSeats } from './role-seats.js';
import type { Seat } from './seat.js';

const MEMBERS = 9;
const family = familyOf('number');
/** `room IN (SELECT room FROM members WHERE …)` */
const JUDGING: Compiled = {
  compiled: {
    predicate: {
      kind: 'any',
      left: { kind: 'column', place: 0, family },
      list: { kind: 'slot', slot: 0 },
    },
    slots: [],
    memberships: [{ oid: MEMBERS, concerns: undefined, entry: undefined }],
  },
};

const rooms = (...numbers: string[]): Folded => ({
  slots: [listOf(numbers.map((number) => family.parse(number)))],
  asOf: new RowSnapshot('10:10:'),
});

function seat(userId: string): Seat {
  const context = { key: userId, role: 'r', userId, claims: '{}' };
  return {
    key: userId,
    channel: { name: 'lobby' } as Channel,
    context,
    owner: undefined,
    members: new Set(),
  };
}

describe('those who are looked up ahead of a change', () => {
  let seats: RoleSeats;
  let ada: Seat;
  let read: (folded: readonly Folded[]) => void;
  let preparing: Promise<boolean>;
  beforeEach(() => {
    seats = new RoleSeats();
    ada = seat('ada');
    seats.add(ada);
    const answer = new Promise<readonly Folded[]>((resolve) => {
      read = resolve;
    });
    preparing = seats.prepare(JUDGING, () => answer, 10);
  });

  /** Who sees a row of a room; `now` is what is read of whom nothing is known. */
  async function seeing(room: string, now: Folded): Promise<string[]> {
    const { index } = await seats.indexed(JUDGING, async (contexts) => contexts.map(() => now));
    return [...index.find(new ExactRow([room]))].map(({ context }) => context.userId);
  }

  it('need not be looked up again', async () => {
    read([rooms('1')]);
    expect(await preparing).toBe(true);
    expect(await seats.prepare(JUDGING, async () => [], 10)).toBe(false);
    expect(await seeing('1', rooms())).toEqual(['ada']);
  });

  it('are looked up again where memberships have changed since that began', async () => {
    seats.changed(MEMBERS, {} as ChangeBatch);
    read([rooms('1')]);
    await preparing;
    expect(await seeing('1', rooms('2'))).toEqual([]);
    expect(await seeing('2', rooms())).toEqual(['ada']);
  });

  it('are not there where they have left since, and are not there twice where the change has come', async () => {
    seats.remove(ada);
    const bob = seat('bob');
    seats.add(bob);
    expect(await seeing('1', rooms('1'))).toEqual(['bob']);
    read([rooms('1')]);
    await preparing;
    expect(await seeing('1', rooms())).toEqual(['bob']);
  });

  it('are whom the newest policies are about', async () => {
    const others: Compiled = { compiled: { ...JUDGING.compiled } };
    const { index } = await seats.indexed(others, async () => [rooms('2')]);
    read([rooms('1')]);
    await preparing;
    expect([...index.find(new ExactRow(['2']))]).toHaveLength(1);
    expect([...index.find(new ExactRow(['1']))]).toEqual([]);
  });
});

describe('a list that follows the changes of its table', () => {
  const ME = familyOf('text');
  /** `room IN (SELECT room FROM members WHERE usr = <slot 1>)`; members has room and usr. */
  const FOLLOWING: Compiled = {
    compiled: {
      ...JUDGING.compiled,
      memberships: [
        {
          oid: MEMBERS,
          concerns: isMine(),
          entry: { slot: 0, predicate: isMine(), place: 0, family },
        },
      ],
    },
  };

  function isMine() {
    return {
      kind: 'compare',
      operator: '=',
      left: { kind: 'column', place: 1, family: ME },
      right: { kind: 'slot', slot: 1, family: ME },
    } as const;
  }

  type Row = readonly [room: string | null, usr: string];

  /** A transaction with one change of the table. */
  function batch(xid: number, old: Row | undefined, now: Row | undefined, index = 0): ChangeBatch {
    const rows = [old, now];
    const kind = old === undefined ? 'insert' : now === undefined ? 'delete' : 'update';
    const streamed = { kind, transaction: { commitLsn: BigInt(xid), xid }, index };
    const change = { streamed, oldRow: old === undefined ? -1 : 0, newRow: now === undefined ? -1 : 1 };
    return {
      changes: [change],
      isWhole: () => true,
      exact: (row: number) => new ExactRow(rows[row] ?? []),
    } as unknown as ChangeBatch;
  }

  let seats: RoleSeats;
  /** What is read of Ada, as of a moment at which the transactions below 10 had ended. */
  let read: number;
  beforeEach(() => {
    seats = new RoleSeats();
    seats.add(seat('ada'));
    read = 0;
  });

  async function isSeen(room: string): Promise<boolean> {
    const { index } = await seats.indexed(FOLLOWING, async (contexts) => {
      read += contexts.length;
      return contexts.map(() => ({
        slots: [listOf([family.parse('1')]), 'ada'],
        asOf: new RowSnapshot('10:12:10'),
      }));
    });
    return [...index.find(new ExactRow([room]))].length > 0;
  }

  it('has what was added and not what was removed, and is not read again', async () => {
    expect([await isSeen('1'), await isSeen('2')]).toEqual([true, false]);
    seats.changed(MEMBERS, batch(12, undefined, ['2', 'ada']));
    seats.changed(MEMBERS, batch(13, undefined, ['3', 'bob']));
    expect([await isSeen('2'), await isSeen('3')]).toEqual([true, false]);
    seats.changed(MEMBERS, batch(14, ['1', 'ada'], ['3', 'ada']));
    seats.changed(MEMBERS, batch(15, ['2', 'ada'], undefined));
    expect([await isSeen('1'), await isSeen('2'), await isSeen('3'), read]).toEqual([false, false, true, 1]);
  });

  it('has a value until the last row with it is gone', async () => {
    await isSeen('1');
    seats.changed(MEMBERS, batch(12, undefined, ['1', 'ada']));
    seats.changed(MEMBERS, batch(13, ['1', 'ada'], undefined));
    expect(await isSeen('1')).toBe(true);
    seats.changed(MEMBERS, batch(14, ['1', 'ada'], undefined));
    expect(await isSeen('1')).toBe(false);
  });

  it('does not take over twice what was read already, or what comes again', async () => {
    await isSeen('1');
    // 9 had ended when it was read, and 11 as well; 10 had not.
    seats.changed(MEMBERS, batch(9, undefined, ['1', 'ada']));
    seats.changed(MEMBERS, batch(11, undefined, ['1', 'ada']));
    seats.changed(MEMBERS, batch(12, undefined, ['2', 'ada']));
    seats.changed(MEMBERS, batch(12, undefined, ['2', 'ada']));
    seats.changed(MEMBERS, batch(13, ['1', 'ada'], undefined));
    seats.changed(MEMBERS, batch(14, ['2', 'ada'], undefined));
    expect([await isSeen('1'), await isSeen('2')]).toEqual([false, false]);
    seats.changed(MEMBERS, batch(10, undefined, ['4', 'ada']));
    expect(await isSeen('4')).toBe(false);
    expect(read).toBe(1);
  });

  it('takes over what was running when it was read, where that ends behind it', async () => {
    await isSeen('1');
    const late = batch(10, undefined, ['2', 'ada']);
    Object.assign(late.changes[0]?.streamed.transaction ?? {}, { commitLsn: 20n });
    seats.changed(MEMBERS, late);
    expect([await isSeen('2'), read]).toEqual([true, 1]);
  });

  it('is read again when memberships may have changed without a word', async () => {
    await isSeen('1');
    seats.changed(MEMBERS, batch(12, undefined, ['2', 'ada']));
    seats.distrust();
    expect([await isSeen('2'), read]).toEqual([false, 2]);
  });
});
