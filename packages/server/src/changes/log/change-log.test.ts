import { beforeEach, describe, expect, it } from 'vitest';
import type { WalRelation } from '../../postgres/source/change-source.js';
import type { ChangeBatch } from './change-batch.js';
import { ChangeLog } from './change-log.js';

const MAX_BYTES = 400_000;
const messages: WalRelation = { oid: 1, schema: 'public', name: 'messages', identity: 'f', columns: [] };
const unsubscribed: WalRelation = { ...messages, oid: 2, name: 'logs' };

let source: { acknowledged: bigint[]; calls: string[] };
let changes: ChangeLog;
let counters: { changesRead: number };

beforeEach(async () => {
  source = { acknowledged: [], calls: [] };
  counters = { changesRead: 0 };
  changes = new ChangeLog({
    maxBytes: MAX_BYTES,
    isSubscribed: (oid) => oid === 1,
    forget: () => ({}),
    counters,
  });
  changes.connect({
    acknowledge: (lsn) => source.acknowledged.push(lsn),
    pause: () => source.calls.push('pause'),
    resume: () => source.calls.push('resume'),
  });
  changes.opened({ epoch: 'e1', memo: {}, end: 0n });
  (await next()).release();
});

/** A transaction that commits at `lsn`, of changes of these sizes. */
function transaction(lsn: number, sizes: readonly number[], relation = messages, isWhole = true): void {
  changes.begin({ commitLsn: BigInt(lsn), commitTime: 0n, xid: lsn });
  for (const size of sizes) changes.change('insert', relation, Buffer.alloc(size));
  if (isWhole) changes.commit(BigInt(lsn + 1), false);
}

async function next(): Promise<ChangeBatch> {
  const batch = await changes.next();
  if (batch === undefined) throw new Error('the log has ended');
  return batch;
}

const positionsOf = ({ changes: all }: ChangeBatch) =>
  all.read().map(({ transaction: { commitLsn }, index }) => `${commitLsn}/${index}`);

describe('the next batch', () => {
  it('has all waiting changes, of several transactions at once, with their positions', async () => {
    transaction(10, [5, 5]);
    transaction(20, [5]);
    expect(positionsOf(await next())).toEqual(['10/0', '10/1', '20/0']);
  });

  it('waits for the first change', async () => {
    const waiting = next();
    transaction(10, [5]);
    expect(positionsOf(await waiting)).toEqual(['10/0']);
  });

  it('has a part of an unfinished transaction only if the transaction is larger than a batch', async () => {
    transaction(
      10,
      Array.from({ length: 513 }, () => 5),
      messages,
      false,
    );
    const first = await next();
    expect(first.changes.count).toBe(512);
    first.release();
    const rest = next();
    changes.change('insert', messages, Buffer.alloc(5));
    changes.commit(11n, false);
    expect(positionsOf(await rest)).toEqual(['10/512', '10/513']);
    expect(source.acknowledged).toEqual([]);
  });

  it('has a single change that fills the log before its transaction ends, since the source is paused until then', async () => {
    transaction(10, [MAX_BYTES], messages, false);
    const batch = await next();
    expect([positionsOf(batch), source.calls]).toEqual([['10/0'], ['pause']]);
    batch.release();
    expect(source.calls).toEqual(['pause', 'resume']);
  });

  it('does not wait for a transaction that continues with many changes of tables without subscriptions', async () => {
    transaction(10, [1], messages, false);
    const waiting = next();
    for (let n = 0; n < 512; n++) changes.change('insert', unsubscribed, Buffer.alloc(1));
    expect(positionsOf(await waiting)).toEqual(['10/0']);
  });

  it('is known to be followed, or not, by changes of a membership table in its last transaction', async () => {
    const isMembershipTable = (oid: number) => oid === 1;
    const many = Array.from({ length: 512 }, () => 1);
    const continues = async () =>
      changes.continuesTransaction((await next()).changes.last, isMembershipTable);
    transaction(10, [...many, 1], messages);
    expect([await continues(), await continues()]).toEqual([true, false]);
    transaction(20, [...many, 1], messages, false);
    expect(changes.continuesTransaction((await next()).changes.last, () => false)).toBe(true);
    changes.commit(21n, false);
    expect(await continues()).toBe(false);
  });

  it('has a limited number of changes and a limited size', async () => {
    transaction(
      10,
      Array.from({ length: 1_100 }, () => 1),
    );
    const lengths = [await next(), await next(), await next()].map(({ changes: all }) => all.count);
    expect(lengths).toEqual([512, 512, 76]);
    transaction(20, [140_000, 140_000]);
    expect((await next()).changes.count).toBe(1);
  });

  it('leaves out changes of tables without subscriptions, but counts them in positions and as read', async () => {
    changes.begin({ commitLsn: 10n, commitTime: 0n, xid: 1 });
    changes.change('insert', unsubscribed, Buffer.alloc(1));
    changes.change('insert', messages, Buffer.alloc(1));
    changes.commit(11n, false);
    expect(positionsOf(await next())).toEqual(['10/1']);
    expect(counters.changesRead).toBe(2);
  });

  it('is undefined once the log has ended', async () => {
    const waiting = changes.next();
    changes.end();
    expect(await waiting).toBeUndefined();
  });
});

describe('the idle position', () => {
  const position = () =>
    changes.idlePosition && `${changes.idlePosition.commitLsn}/${changes.idlePosition.index}`;

  it('advances with changes of tables without subscriptions, even within a transaction', () => {
    expect(position()).toBeUndefined();
    transaction(10, [1], unsubscribed);
    expect(position()).toBe('10/0');
    transaction(20, [1, 1], unsubscribed, false);
    expect(position()).toBe('20/1');
  });

  it('is undefined while a change waits for delivery', async () => {
    transaction(10, [1]);
    transaction(20, [1], unsubscribed);
    expect(position()).toBeUndefined();
    await next();
    expect(position()).toBe('20/0');
  });
});

describe('changes that are sent again after a lost connection', () => {
  it('are skipped up to the last change that was read, even within a transaction', async () => {
    transaction(10, [1, 1]);
    transaction(20, [1, 1], messages, false);
    changes.closed('connection lost');
    changes.opened({ epoch: 'e1', memo: {}, end: 0n });
    transaction(10, [1, 1]);
    transaction(20, [1, 1, 1]);
    const all = [await next(), await next(), await next(), await next()];
    expect(all.flatMap(positionsOf)).toEqual(['10/0', '10/1', '20/0', '20/1', '20/2']);
    expect(all.flatMap(({ streamEvent }) => streamEvent?.event ?? [])).toEqual([
      'database_down',
      'database_up',
    ]);
  });

  it('are new changes in another epoch, whose start has the reason of the gap', async () => {
    transaction(10, [1]);
    changes.closed('connection lost');
    changes.opened({ epoch: 'e2', gap: 'the slot was recreated', memo: {}, end: 0n });
    transaction(10, [1]);
    const all = [await next(), await next(), await next(), await next(), await next()];
    expect(
      all.map(({ streamEvent, epochStart, epoch }) => streamEvent?.event ?? epochStart?.epoch ?? epoch),
    ).toEqual(['e1', 'database_down', 'database_up', 'e2', 'e2']);
    expect(all[3]?.epochStart).toEqual({ epoch: 'e2', memo: {}, end: 0n, gap: 'the slot was recreated' });
  });
});

describe('the acknowledged position', () => {
  it('is the end of the last transaction up to which every batch is done, in whatever order they finish', async () => {
    transaction(10, [1]);
    const first = await next();
    transaction(20, [1]);
    const second = await next();
    second.release();
    expect(source.acknowledged).toEqual([]);
    first.retain();
    first.release();
    expect(source.acknowledged).toEqual([]);
    first.release();
    expect(source.acknowledged).toEqual([21n]);
  });

  it('advances at once over a transaction without subscribed changes, unless earlier batches are pending', async () => {
    transaction(10, [1], unsubscribed);
    expect(source.acknowledged).toEqual([11n]);
    transaction(20, [1]);
    transaction(30, [1], unsubscribed);
    expect(source.acknowledged).toEqual([11n]);
    (await next()).release();
    expect(source.acknowledged).toEqual([11n, 31n]);
  });

  it('is never within a transaction', async () => {
    transaction(
      10,
      Array.from({ length: 600 }, () => 1),
    );
    (await next()).release();
    expect(source.acknowledged).toEqual([]);
    (await next()).release();
    expect(source.acknowledged).toEqual([11n]);
  });
});

describe('a full log', () => {
  it('pauses the source, and resumes it when half of the log is free', async () => {
    transaction(10, [200_000, 210_000]);
    expect(source.calls).toEqual(['pause']);
    const [first, second] = [await next(), await next()];
    expect(changes.isBlocked).toBe(true);
    second.release();
    expect(source.calls).toEqual(['pause']);
    first.release();
    expect(source.calls).toEqual(['pause', 'resume']);
    expect([changes.bytes, changes.isBlocked]).toEqual([0, false]);
  });

  it('is not blocked by members while its changes still wait for delivery', () => {
    transaction(10, [200_000, 210_000]);
    expect(changes.isBlocked).toBe(false);
  });
});

describe('transactions that may have changed the catalog', () => {
  it('are noted in the waiting batches with changes of them', async () => {
    transaction(10, [5]);
    changes.begin({ commitLsn: 20n, commitTime: 0n, xid: 20 });
    for (let n = 0; n < 600; n++) changes.change('insert', messages, Buffer.alloc(5));
    changes.commit(21n, true);
    transaction(30, [5]);
    expect((await next()).catalogXids).toEqual([20]);
    expect((await next()).catalogXids).toEqual([20]);
  });

  it('are not looked for in batches whose last change is of another one', async () => {
    transaction(10, [5]);
    changes.begin({ commitLsn: 20n, commitTime: 0n, xid: 20 });
    changes.change('insert', unsubscribed, Buffer.alloc(5));
    changes.commit(21n, true);
    expect((await next()).catalogXids).toEqual([]);
  });

  it('are those that have not ended when a batch is taken, too', async () => {
    changes.begin({ commitLsn: 10n, commitTime: 0n, xid: 10 });
    for (let n = 0; n < 600; n++) changes.change('insert', messages, Buffer.alloc(5));
    expect((await next()).catalogXids).toEqual([10]);
  });
});
