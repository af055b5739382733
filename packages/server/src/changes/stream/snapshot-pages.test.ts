import { mkdirSync, mkdtempSync, readdirSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { RecordingLog } from '../../../../../tests/support/recording-log.js';
import { IdSource } from '../../lib/ids.js';
import { SnapshotBudget } from './snapshot-budget.js';
import { SnapshotFiles } from './snapshot-files.js';
import { SnapshotPages } from './snapshot-pages.js';

let data: string;
let folder: string;
let log: RecordingLog;
let files: SnapshotFiles;
let budget: SnapshotBudget;

beforeEach(() => {
  data = mkdtempSync(join(tmpdir(), 'goforward-snapshots-'));
  folder = join(data, 'snapshots');
  log = new RecordingLog();
  files = new SnapshotFiles({ folder, ids: new IdSource(), log });
  budget = new SnapshotBudget({ perSnapshot: 100, perUser: 100, total: 100 });
});
afterEach(async () => {
  await files.close();
  rmSync(data, { recursive: true, force: true });
});

function newPages(): SnapshotPages {
  return new SnapshotPages({ reservation: budget.reserve('ann'), files, memoryBytes: 10 });
}

async function filled(texts: readonly string[]): Promise<SnapshotPages> {
  const pages = newPages();
  for (const text of texts) await pages.append(Buffer.from(text));
  pages.settle();
  return pages;
}

async function contentOf(pages: SnapshotPages): Promise<string[]> {
  return Promise.all(Array.from({ length: pages.count }, (_, n) => pages.read(n)));
}

describe('the pages of a snapshot', () => {
  it('stay in memory while they are small, and count for the budget', async () => {
    const pages = await filled(['{"a":1}', '{}']);
    expect([await contentOf(pages), files.count, budget.bytes]).toEqual([['{"a":1}', '{}'], 0, 9]);
    pages.close();
    expect(budget.bytes).toBe(0);
  });

  it('are read from a file as they were written, in any order, and freed at once', async () => {
    const texts = ['{"a":1}', '{"b":"é€𝄞"}', '', '{"c":3}'];
    const pages = await filled(texts);
    expect([await contentOf(pages), files.count, files.bytes]).toEqual([texts, 1, budget.bytes]);
    expect(await pages.read(1)).toBe(texts[1]);
    pages.close();
    pages.close();
    await expect(pages.read(0)).rejects.toThrow('no such page');
    await files.close();
    await Promise.resolve();
    expect([files.count, files.bytes, budget.bytes]).toEqual([0, 0, 0]);
  });

  it.skipIf(process.platform === 'win32')('are in a file without a name, in a private folder', async () => {
    const pages = await filled(['more than ten bytes']);
    expect([readdirSync(folder), statSync(folder).mode & 0o777]).toEqual([[], 0o700]);
    pages.close();
  });

  it('of a server that was killed are deleted by the next start', async () => {
    mkdirSync(folder);
    writeFileSync(join(folder, 'left'), 'rows');
    await files.removeOrphans();
    expect(readdirSync(folder)).toEqual([]);
  });

  it('that cannot be stored fail alone, with a reason that is logged once until files can be written again', async () => {
    writeFileSync(folder, 'not a folder');
    const fails = async () => {
      const pages = newPages();
      await expect(pages.append(Buffer.alloc(11))).rejects.toMatchObject({
        code: 'DB_SUBSCRIPTION_FAILED',
        body: { details: expect.stringContaining('cannot store') },
      });
      pages.close();
      expect(budget.bytes).toBe(0);
    };
    await fails();
    await fails();
    const small = await filled(['{}']);
    expect([await contentOf(small), log.warnings.length]).toEqual([['{}'], 1]);
    small.close();
    rmSync(folder);
    (await filled(['more than ten bytes'])).close();
    await files.close();
    rmSync(folder, { recursive: true });
    writeFileSync(folder, 'not a folder');
    await fails();
    expect(log.warnings.length).toBe(2);
  });
});
