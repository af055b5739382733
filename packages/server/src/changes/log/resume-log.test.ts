import { mkdirSync, mkdtempSync, readdirSync, rmSync, utimesSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { RecordingLog } from '../../../../../tests/support/recording-log.js';
import type { WalRelation } from '../../postgres/source/change-source.js';
import { comparePositions, type Position } from '../model/position.js';
import { PackedChanges } from './packed-changes.js';
import { ResumeLog } from './resume-log.js';
import { WindowFile } from './window-file.js';

const BEGINNING: Position = { commitLsn: 0n, index: -1 };
const relation = (oid: number): WalRelation => ({
  oid,
  schema: 'public',
  name: `t${oid}`,
  identity: 'f',
  columns: [],
});
const [first, second] = [relation(1), relation(2)];

let folder: string;
let file: WindowFile;
let log: RecordingLog;

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'goforward-window-'));
  file = new WindowFile(join(folder, 'window'), 'mine');
  log = new RecordingLog();
});
afterEach(() => {
  file.close();
  rmSync(folder, { recursive: true, force: true });
});

function logOf(maxBytes: number, maxFileBytes = 1e9): ResumeLog {
  return new ResumeLog({ maxBytes, maxFileBytes, file, log });
}

/** Packs the changes of transactions, each with its LSN and the sizes of its changes. */
function packed(
  transactions: readonly (readonly [lsn: number, sizes: readonly number[]])[],
  of = first,
): PackedChanges {
  const changes = new PackedChanges();
  for (const [lsn, sizes] of transactions) {
    const transaction = { commitLsn: BigInt(lsn), commitTime: BigInt(lsn) * 10n, xid: lsn };
    for (const [index, size] of sizes.entries())
      changes.add('insert', of, transaction, index, Buffer.alloc(size, index % 251));
  }
  return changes;
}

/** Reads everything after a position, page by page. */
async function readAll(resumeLog: ResumeLog, after: Position): Promise<string[]> {
  const all: string[] = [];
  let at = after;
  for (let page = await resumeLog.read(at); page !== undefined; page = await resumeLog.read(at)) {
    for (const change of page.changes) {
      const { commitLsn } = change.transaction;
      const size = change.kind === 'truncate' ? 0 : change.end - change.start;
      if (change.kind !== 'truncate' && size > 0) expect(change.bytes[change.start]).toBe(change.index % 251);
      all.push(`${commitLsn}/${change.index} ${size}`);
    }
    expect(comparePositions(page.end, at)).toBeGreaterThan(0);
    at = page.end;
  }
  return all;
}

describe('delivered changes', () => {
  it('are read again after any position, unchanged, from memory and from files', async () => {
    const runs = fc.array(fc.array(fc.nat(3_000), { minLength: 1, maxLength: 6 }), {
      minLength: 1,
      maxLength: 40,
    });
    await fc.assert(
      fc.asyncProperty(
        runs,
        fc.integer({ min: 1, max: 50_000 }),
        fc.nat(400),
        fc.nat(6),
        async (all, memory, lsn, index) => {
          const resumeLog = logOf(memory);
          const expected: [Position, string][] = [];
          for (const [n, sizes] of all.entries()) {
            resumeLog.append(packed([[10 * (n + 1), sizes]]));
            for (const [at, size] of sizes.entries())
              expected.push([
                { commitLsn: BigInt(10 * (n + 1)), index: at },
                `${10 * (n + 1)}/${at} ${size}`,
              ]);
          }
          const after = { commitLsn: BigInt(lsn), index };
          const later = expected
            .filter(([position]) => comparePositions(position, after) > 0)
            .map(([, text]) => text);
          expect(resumeLog.hasAfter(after)).toBe(later.length > 0);
          expect(await readAll(resumeLog, after)).toEqual(later);
          expect(await readAll(resumeLog, BEGINNING)).toEqual(expected.map(([, text]) => text));
          resumeLog.reset(new Map());
          expect(file.bytes).toBe(0);
        },
      ),
      { numRuns: 60 },
    );
  });

  it('are kept in memory up to the limit and in files beyond it; a file is deleted once nothing in it is needed', async () => {
    const resumeLog = logOf(600_000);
    for (let n = 1; n <= 500; n++) resumeLog.append(packed([[n, [200_000]]]));
    expect(resumeLog.bytes.memory).toBeLessThanOrEqual(600_000);
    expect(resumeLog.bytes.file).toBeGreaterThan(98_000_000);
    expect(readdirSync(join(folder, 'window')).length).toBe(3);
    resumeLog.forget(400n);
    expect((await readAll(resumeLog, BEGINNING)).length).toBe(101);
    expect(readdirSync(join(folder, 'window')).length).toBe(1);
    resumeLog.forget(1_000n);
    expect(resumeLog.bytes).toEqual({ memory: 0, file: 0 });
    expect(readdirSync(join(folder, 'window'))).toEqual([]);
  });
});

describe('changes that are no longer kept', () => {
  it('are known for each table separately', () => {
    const resumeLog = logOf(1e6);
    resumeLog.append(packed([[10, [1, 1]]]));
    resumeLog.append(packed([[20, [1]]], second));
    resumeLog.append(packed([[30, [1]]]));
    resumeLog.forget(1_000n);
    const at = (commitLsn: bigint, index = 0) => ({ commitLsn, index });
    expect(resumeLog.covers(at(30n), [1, 2])).toBe(true);
    expect(resumeLog.covers(at(20n), [2])).toBe(true);
    expect(resumeLog.covers(at(20n), [1, 2])).toBe(false);
    expect(resumeLog.covers(at(10n, 1), [2])).toBe(false);
    expect(resumeLog.covers(at(1n), [3])).toBe(true);
    expect(new Set(resumeLog.forgotten.keys())).toEqual(new Set([1, 2]));
  });

  it('do not include a transaction that PostgreSQL may send again', async () => {
    const resumeLog = logOf(1e6);
    resumeLog.append(
      packed([
        [10, [1]],
        [20, [1]],
      ]),
    );
    resumeLog.forget(20n);
    expect(await readAll(resumeLog, BEGINNING)).toEqual(['10/0 1', '20/0 1']);
  });

  it('are the oldest if files are full or cannot be written, and the server warns once that they cannot', async () => {
    const full = logOf(300_000, 1_000_000);
    for (let n = 1; n <= 20; n++) full.append(packed([[n, [200_000]]]));
    expect(full.bytes.file).toBeLessThanOrEqual(1_000_000);
    expect(full.covers({ commitLsn: 5n, index: 0 }, [1])).toBe(false);
    expect((await readAll(full, BEGINNING)).at(-1)).toBe('20/0 200000');
    full.reset(new Map());

    const broken = new ResumeLog({
      maxBytes: 300_000,
      maxFileBytes: 1e9,
      file: {
        bytes: 0,
        store: () => {
          throw new Error('no space left on device');
        },
        read: () => Promise.reject(new Error('nothing is there')),
        remove: () => undefined,
      },
      log,
    });
    for (let n = 1; n <= 10; n++) broken.append(packed([[n, [200_000]]]));
    expect(broken.covers({ commitLsn: 5n, index: 0 }, [1])).toBe(false);
    expect(await readAll(broken, BEGINNING)).toEqual(['10/0 200000']);
    expect(log.warnings).toHaveLength(1);
  });

  it('are replaced in another epoch by those that are missing there', () => {
    const resumeLog = logOf(1e6);
    resumeLog.append(packed([[10, [1]]]));
    resumeLog.reset(new Map([[7, { commitLsn: 5n, index: 2 }]]));
    expect(resumeLog.hasAfter(BEGINNING)).toBe(false);
    expect(resumeLog.covers({ commitLsn: 5n, index: 1 }, [7])).toBe(false);
    expect(resumeLog.covers({ commitLsn: 5n, index: 2 }, [7])).toBe(true);
  });
});

describe('files of the resume window', () => {
  it('are deleted with the server, which leaves files of other servers alone', () => {
    const others = new WindowFile(join(folder, 'window'), 'theirs');
    others.store(Buffer.alloc(10));
    const resumeLog = logOf(1_000);
    for (let n = 1; n <= 3; n++) resumeLog.append(packed([[n, [300_000]]]));
    expect(readdirSync(join(folder, 'window')).sort(byName)).toEqual(['mine.1', 'theirs.1']);
    file.close();
    expect(readdirSync(join(folder, 'window'))).toEqual(['theirs.1']);
    others.close();
  });

  it('that a killed server left behind are deleted once they are old', () => {
    mkdirSync(join(folder, 'window'));
    for (const name of ['old.1', 'new.1']) writeFileSync(join(folder, 'window', name), 'x');
    const anHourAgo = new Date(Date.now() - 3_700_000);
    utimesSync(join(folder, 'window', 'old.1'), anHourAgo, anHourAgo);
    file.store(Buffer.alloc(10));
    expect(readdirSync(join(folder, 'window')).sort(byName)).toEqual(['mine.1', 'new.1']);
  });

  it('have no range that can be read after it was removed', async () => {
    const range = file.store(Buffer.from('something'));
    expect((await file.read(range)).toString()).toBe('something');
    file.remove(range);
    await expect(file.read(range)).rejects.toThrow('removed');
  });
});

function byName(a: string, b: string): number {
  return a < b ? -1 : 1;
}
