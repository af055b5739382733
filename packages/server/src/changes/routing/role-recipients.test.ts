import { beforeEach, describe, expect, it } from 'vitest';
import type { Channel } from '../../channels/channel.js';
import type { RecipientGroup } from '../model/recipient-group.js';
import { RowSnapshot } from '../model/row-snapshot.js';
import type { ViewerParameters } from '../visibility/authorizer.js';
import type { Compiled } from '../visibility/compiling/compiled-expression.js';
import { familyOf } from '../visibility/compiling/type-families.js';
import { TypedRow } from '../visibility/compiling/typed-row.js';
import { listOf } from '../visibility/compiling/value-list.js';
import { RoleRecipients } from './role-recipients.js';
import type { TableBatch } from './table-batch.js';

const MEMBERS = 9;
const family = familyOf('number');
/** `room IN (SELECT room FROM members WHERE …)` */
const MEMBERS_OF_ROOM: Compiled = {
  compiled: {
    predicate: {
      kind: 'any',
      left: { kind: 'column', columnIndex: 0, family },
      list: { kind: 'parameter', parameter: 0 },
    },
    parameters: [],
    memberships: [{ oid: MEMBERS, concerns: undefined, entry: undefined }],
  },
};

const rooms = (...numbers: string[]): ViewerParameters => ({
  parameters: [listOf(numbers.map((number) => family.parse(number)))],
  asOf: new RowSnapshot('10:10:'),
});

function group(userId: string): RecipientGroup {
  const viewer = { key: userId, role: 'r', userId, claims: '{}', settings: [] };
  return {
    key: userId,
    channel: { name: 'lobby' } as Channel,
    viewer,
    owner: undefined,
    members: new Set(),
  };
}

const fail = () => {
  throw new Error('a row was not decided');
};

describe('viewers that are prepared ahead of a change', () => {
  let recipients: RoleRecipients;
  let ada: RecipientGroup;
  let answerRead: (parametersOf: readonly ViewerParameters[]) => void;
  let preparing: Promise<boolean>;
  beforeEach(() => {
    recipients = new RoleRecipients();
    ada = group('ada');
    recipients.add(ada);
    const answer = new Promise<readonly ViewerParameters[]>((resolve) => {
      answerRead = resolve;
    });
    preparing = recipients.prepare(MEMBERS_OF_ROOM, () => answer, 10);
  });

  /** Returns the users that see a row of a room; `now`: the parameters of viewers that are still pending. */
  async function viewersSeeing(room: string, now: ViewerParameters): Promise<string[]> {
    const { index } = await recipients.indexViewers(MEMBERS_OF_ROOM, async (viewers) =>
      viewers.map(() => now),
    );
    return [...index.find(new TypedRow([room]), fail)].map(({ viewer }) => viewer.userId);
  }

  it('are not evaluated again', async () => {
    answerRead([rooms('1')]);
    expect(await preparing).toBe(true);
    expect(await recipients.prepare(MEMBERS_OF_ROOM, async () => [], 10)).toBe(false);
    expect(await viewersSeeing('1', rooms())).toEqual(['ada']);
  });

  it('are evaluated again if memberships have changed since the preparation began', async () => {
    recipients.tableChanged(MEMBERS, { changes: [] } as unknown as TableBatch);
    answerRead([rooms('1')]);
    await preparing;
    expect(await viewersSeeing('1', rooms('2'))).toEqual([]);
    expect(await viewersSeeing('2', rooms())).toEqual(['ada']);
  });

  it('are not added if they have left meanwhile, and not added twice if the change came first', async () => {
    recipients.remove(ada);
    const bob = group('bob');
    recipients.add(bob);
    expect(await viewersSeeing('1', rooms('1'))).toEqual(['bob']);
    answerRead([rooms('1')]);
    await preparing;
    expect(await viewersSeeing('1', rooms())).toEqual(['bob']);
  });

  it('are evaluated by the newest policies', async () => {
    const others: Compiled = { compiled: { ...MEMBERS_OF_ROOM.compiled } };
    const { index } = await recipients.indexViewers(others, async () => [rooms('2')]);
    answerRead([rooms('1')]);
    await preparing;
    expect([...index.find(new TypedRow(['2']), fail)]).toHaveLength(1);
    expect([...index.find(new TypedRow(['1']), fail)]).toEqual([]);
  });
});

describe('a list that is kept up to date by the changes of its table', () => {
  const ME = familyOf('text');
  /** `room IN (SELECT room FROM members WHERE usr = <parameter 1>)`; members has room and usr. */
  const TRACKED_MEMBERS_OF_ROOM: Compiled = {
    compiled: {
      ...MEMBERS_OF_ROOM.compiled,
      memberships: [
        {
          oid: MEMBERS,
          concerns: isOwnRow(),
          entry: { parameter: 0, predicate: isOwnRow(), columnIndex: 0, family },
        },
      ],
    },
  };

  function isOwnRow() {
    return {
      kind: 'compare',
      operator: '=',
      left: { kind: 'column', columnIndex: 1, family: ME },
      right: { kind: 'parameter', parameter: 1, family: ME },
    } as const;
  }

  type Row = readonly [room: string | null, usr: string];

  /** Returns a transaction with one change of the table. */
  function tableBatch(xid: number, old: Row | undefined, now: Row | undefined, index = 0): TableBatch {
    const rows = [old, now];
    const kind = old === undefined ? 'insert' : now === undefined ? 'delete' : 'update';
    const streamed = { kind, transaction: { commitLsn: BigInt(xid), xid }, index };
    const change = { streamed, oldRow: old === undefined ? -1 : 0, newRow: now === undefined ? -1 : 1 };
    return {
      changes: [change],
      isComplete: () => true,
      typedRow: (row: number) => new TypedRow(rows[row] ?? []),
    } as unknown as TableBatch;
  }

  let recipients: RoleRecipients;
  /** How often Ada's list was read: each time in a snapshot in which transaction 10 was running. */
  let readCount: number;
  beforeEach(() => {
    recipients = new RoleRecipients();
    recipients.add(group('ada'));
    readCount = 0;
  });

  async function isSeen(room: string): Promise<boolean> {
    const { index } = await recipients.indexViewers(TRACKED_MEMBERS_OF_ROOM, async (viewers) => {
      readCount += viewers.length;
      return viewers.map(() => ({
        parameters: [listOf([family.parse('1')]), 'ada'],
        asOf: new RowSnapshot('10:12:10'),
      }));
    });
    return [...index.find(new TypedRow([room]), fail)].length > 0;
  }

  it('has added values and no removed ones, and is not read again', async () => {
    expect([await isSeen('1'), await isSeen('2')]).toEqual([true, false]);
    recipients.tableChanged(MEMBERS, tableBatch(12, undefined, ['2', 'ada']));
    recipients.tableChanged(MEMBERS, tableBatch(13, undefined, ['3', 'bob']));
    expect([await isSeen('2'), await isSeen('3')]).toEqual([true, false]);
    recipients.tableChanged(MEMBERS, tableBatch(14, ['1', 'ada'], ['3', 'ada']));
    recipients.tableChanged(MEMBERS, tableBatch(15, ['2', 'ada'], undefined));
    expect([await isSeen('1'), await isSeen('2'), await isSeen('3'), readCount]).toEqual([
      false,
      false,
      true,
      1,
    ]);
  });

  it('has a value until the last row with it is deleted', async () => {
    await isSeen('1');
    recipients.tableChanged(MEMBERS, tableBatch(12, undefined, ['1', 'ada']));
    recipients.tableChanged(MEMBERS, tableBatch(13, ['1', 'ada'], undefined));
    expect(await isSeen('1')).toBe(true);
    recipients.tableChanged(MEMBERS, tableBatch(14, ['1', 'ada'], undefined));
    expect(await isSeen('1')).toBe(false);
  });

  it('applies no change that it was read with, and no change twice', async () => {
    await isSeen('1');
    // Transactions 9 and 11 had ended when the list was read; 10 was running.
    recipients.tableChanged(MEMBERS, tableBatch(9, undefined, ['1', 'ada']));
    recipients.tableChanged(MEMBERS, tableBatch(11, undefined, ['1', 'ada']));
    recipients.tableChanged(MEMBERS, tableBatch(12, undefined, ['2', 'ada']));
    recipients.tableChanged(MEMBERS, tableBatch(12, undefined, ['2', 'ada']));
    recipients.tableChanged(MEMBERS, tableBatch(13, ['1', 'ada'], undefined));
    recipients.tableChanged(MEMBERS, tableBatch(14, ['2', 'ada'], undefined));
    expect([await isSeen('1'), await isSeen('2')]).toEqual([false, false]);
    recipients.tableChanged(MEMBERS, tableBatch(10, undefined, ['4', 'ada']));
    expect(await isSeen('4')).toBe(false);
    expect(readCount).toBe(1);
  });

  it('applies a transaction that was running when the list was read and commits later', async () => {
    await isSeen('1');
    const late = tableBatch(10, undefined, ['2', 'ada']);
    Object.assign(late.changes[0]?.streamed.transaction ?? {}, { commitLsn: 20n });
    recipients.tableChanged(MEMBERS, late);
    expect([await isSeen('2'), readCount]).toEqual([true, 1]);
  });

  it('is read again after a row that has no steps left to decide whether it is in the list', async () => {
    const name = 'a'.repeat(100);
    const isFound = async (room: string) => {
      const { index } = await recipients.indexViewers(TRACKED_MEMBERS_OF_ROOM, async (viewers) => {
        readCount += viewers.length;
        return viewers.map(() => ({
          parameters: [listOf([family.parse(String(readCount))]), name],
          asOf: new RowSnapshot('10:10:'),
        }));
      });
      return [...index.find(new TypedRow([room]), fail)].length > 0;
    };
    expect([await isFound('1'), await isFound('2')]).toEqual([true, false]);
    const batch = tableBatch(12, undefined, ['3', name]);
    recipients.tableChanged(
      MEMBERS,
      Object.assign(batch, { typedRow: () => new TypedRow(['3', name], undefined, 0) }),
    );
    expect([await isFound('1'), await isFound('2')]).toEqual([false, true]);
  });

  it('is read again after memberships were invalidated', async () => {
    await isSeen('1');
    recipients.tableChanged(MEMBERS, tableBatch(12, undefined, ['2', 'ada']));
    recipients.invalidateMemberships();
    expect([await isSeen('2'), readCount]).toEqual([false, 2]);
  });
});
