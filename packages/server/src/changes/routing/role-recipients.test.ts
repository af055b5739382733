import { beforeEach, describe, expect, it } from 'vitest';
import type { Channel } from '../../channels/channel.js';
import type { RecipientGroup } from '../model/recipient-group.js';
import { RowSnapshot } from '../model/row-snapshot.js';
import type { ViewerParameters } from '../visibility/authorizer.js';
import type { Compiled } from '../visibility/compiling/compiled-expression.js';
import { listOf, TypedRow } from '../visibility/compiling/predicate.js';
import { familyOf } from '../visibility/compiling/typed-values.js';
import { RoleRecipients } from './role-recipients.js';
import type { TableBatch } from './table-batch.js';

const MEMBERS = 9;
const family = familyOf('number');
/** `room IN (SELECT room FROM members WHERE …)` */
const JUDGING: Compiled = {
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

describe('those who are looked up ahead of a change', () => {
  let recipients: RoleRecipients;
  let ada: RecipientGroup;
  let read: (parametersOf: readonly ViewerParameters[]) => void;
  let preparing: Promise<boolean>;
  beforeEach(() => {
    recipients = new RoleRecipients();
    ada = group('ada');
    recipients.add(ada);
    const answer = new Promise<readonly ViewerParameters[]>((resolve) => {
      read = resolve;
    });
    preparing = recipients.prepare(JUDGING, () => answer, 10);
  });

  /** Who sees a row of a room; `now` is what is read of whom nothing is known. */
  async function seeing(room: string, now: ViewerParameters): Promise<string[]> {
    const { index } = await recipients.indexed(JUDGING, async (viewers) => viewers.map(() => now));
    return [...index.find(new TypedRow([room]))].map(({ viewer }) => viewer.userId);
  }

  it('need not be looked up again', async () => {
    read([rooms('1')]);
    expect(await preparing).toBe(true);
    expect(await recipients.prepare(JUDGING, async () => [], 10)).toBe(false);
    expect(await seeing('1', rooms())).toEqual(['ada']);
  });

  it('are looked up again where memberships have changed since that began', async () => {
    recipients.tableChanged(MEMBERS, {} as TableBatch);
    read([rooms('1')]);
    await preparing;
    expect(await seeing('1', rooms('2'))).toEqual([]);
    expect(await seeing('2', rooms())).toEqual(['ada']);
  });

  it('are not there where they have left since, and are not there twice where the change has come', async () => {
    recipients.remove(ada);
    const bob = group('bob');
    recipients.add(bob);
    expect(await seeing('1', rooms('1'))).toEqual(['bob']);
    read([rooms('1')]);
    await preparing;
    expect(await seeing('1', rooms())).toEqual(['bob']);
  });

  it('are whom the newest policies are about', async () => {
    const others: Compiled = { compiled: { ...JUDGING.compiled } };
    const { index } = await recipients.indexed(others, async () => [rooms('2')]);
    read([rooms('1')]);
    await preparing;
    expect([...index.find(new TypedRow(['2']))]).toHaveLength(1);
    expect([...index.find(new TypedRow(['1']))]).toEqual([]);
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
          entry: { parameter: 0, predicate: isMine(), columnIndex: 0, family },
        },
      ],
    },
  };

  function isMine() {
    return {
      kind: 'compare',
      operator: '=',
      left: { kind: 'column', columnIndex: 1, family: ME },
      right: { kind: 'parameter', parameter: 1, family: ME },
    } as const;
  }

  type Row = readonly [room: string | null, usr: string];

  /** A transaction with one change of the table. */
  function tableBatch(xid: number, old: Row | undefined, now: Row | undefined, index = 0): TableBatch {
    const rows = [old, now];
    const kind = old === undefined ? 'insert' : now === undefined ? 'delete' : 'update';
    const streamed = { kind, transaction: { commitLsn: BigInt(xid), xid }, index };
    const change = { streamed, oldRow: old === undefined ? -1 : 0, newRow: now === undefined ? -1 : 1 };
    return {
      changes: [change],
      isWhole: () => true,
      exact: (row: number) => new TypedRow(rows[row] ?? []),
    } as unknown as TableBatch;
  }

  let recipients: RoleRecipients;
  /** What is read of Ada, as of a moment at which the transactions below 10 had ended. */
  let read: number;
  beforeEach(() => {
    recipients = new RoleRecipients();
    recipients.add(group('ada'));
    read = 0;
  });

  async function isSeen(room: string): Promise<boolean> {
    const { index } = await recipients.indexed(FOLLOWING, async (viewers) => {
      read += viewers.length;
      return viewers.map(() => ({
        parameters: [listOf([family.parse('1')]), 'ada'],
        asOf: new RowSnapshot('10:12:10'),
      }));
    });
    return [...index.find(new TypedRow([room]))].length > 0;
  }

  it('has what was added and not what was removed, and is not read again', async () => {
    expect([await isSeen('1'), await isSeen('2')]).toEqual([true, false]);
    recipients.tableChanged(MEMBERS, tableBatch(12, undefined, ['2', 'ada']));
    recipients.tableChanged(MEMBERS, tableBatch(13, undefined, ['3', 'bob']));
    expect([await isSeen('2'), await isSeen('3')]).toEqual([true, false]);
    recipients.tableChanged(MEMBERS, tableBatch(14, ['1', 'ada'], ['3', 'ada']));
    recipients.tableChanged(MEMBERS, tableBatch(15, ['2', 'ada'], undefined));
    expect([await isSeen('1'), await isSeen('2'), await isSeen('3'), read]).toEqual([false, false, true, 1]);
  });

  it('has a value until the last row with it is gone', async () => {
    await isSeen('1');
    recipients.tableChanged(MEMBERS, tableBatch(12, undefined, ['1', 'ada']));
    recipients.tableChanged(MEMBERS, tableBatch(13, ['1', 'ada'], undefined));
    expect(await isSeen('1')).toBe(true);
    recipients.tableChanged(MEMBERS, tableBatch(14, ['1', 'ada'], undefined));
    expect(await isSeen('1')).toBe(false);
  });

  it('does not take over twice what was read already, or what comes again', async () => {
    await isSeen('1');
    // 9 had ended when it was read, and 11 as well; 10 had not.
    recipients.tableChanged(MEMBERS, tableBatch(9, undefined, ['1', 'ada']));
    recipients.tableChanged(MEMBERS, tableBatch(11, undefined, ['1', 'ada']));
    recipients.tableChanged(MEMBERS, tableBatch(12, undefined, ['2', 'ada']));
    recipients.tableChanged(MEMBERS, tableBatch(12, undefined, ['2', 'ada']));
    recipients.tableChanged(MEMBERS, tableBatch(13, ['1', 'ada'], undefined));
    recipients.tableChanged(MEMBERS, tableBatch(14, ['2', 'ada'], undefined));
    expect([await isSeen('1'), await isSeen('2')]).toEqual([false, false]);
    recipients.tableChanged(MEMBERS, tableBatch(10, undefined, ['4', 'ada']));
    expect(await isSeen('4')).toBe(false);
    expect(read).toBe(1);
  });

  it('takes over what was running when it was read, where that ends behind it', async () => {
    await isSeen('1');
    const late = tableBatch(10, undefined, ['2', 'ada']);
    Object.assign(late.changes[0]?.streamed.transaction ?? {}, { commitLsn: 20n });
    recipients.tableChanged(MEMBERS, late);
    expect([await isSeen('2'), read]).toEqual([true, 1]);
  });

  it('is read again when memberships may have changed without a word', async () => {
    await isSeen('1');
    recipients.tableChanged(MEMBERS, tableBatch(12, undefined, ['2', 'ada']));
    recipients.invalidateMemberships();
    expect([await isSeen('2'), read]).toEqual([false, 2]);
  });
});
