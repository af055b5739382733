import { beforeEach, describe, expect, it } from 'vitest';
import type { Channel } from '../../channels/channel.js';
import type { Compiled } from '../compiling/compiled-expression.js';
import { familyOf } from '../compiling/exact-values.js';
import { ExactRow, type Slot } from '../compiling/predicate.js';
import type { ChangeBatch } from './decoded-change.js';
import { RoleSeats, type Seat } from './seats.js';

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
    memberships: [{ oid: MEMBERS, concerns: undefined }],
  },
};

const rooms = (...numbers: string[]): readonly Slot[] => [
  { values: new Set(numbers.map((number) => family.parse(number))), hasNull: false },
];

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
  let read: (slots: readonly (readonly Slot[])[]) => void;
  let preparing: Promise<boolean>;
  beforeEach(() => {
    seats = new RoleSeats();
    ada = seat('ada');
    seats.add(ada);
    const answer = new Promise<readonly (readonly Slot[])[]>((resolve) => {
      read = resolve;
    });
    preparing = seats.prepare(JUDGING, () => answer, 10);
  });

  /** Who sees a row of a room; `now` is what is read of whom nothing is known. */
  async function seeing(room: string, now: readonly Slot[]): Promise<string[]> {
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
