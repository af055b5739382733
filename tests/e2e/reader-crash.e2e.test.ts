import { type ChildProcess, spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import pg from 'pg';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { eventually } from '../support/eventually.js';
import { postgresVersions } from '../support/matrix.js';
import { createTestDatabase, dropSlot } from '../support/postgres-database.js';
import { buildProgram, type Program } from '../support/program.js';
import type { ReaderOptions } from '../support/reader-entry.js';

const TRANSACTIONS = 1_000;
/** Before these transactions the reader is killed and replaced, after it has caught up. */
const KILLS = [40, 170, 333, 480, 600, 750, 850, 990];
/** Before these transactions the reader is killed while it starts. */
const KILLS_AT_START = [1, 41, 334, 335];

let program: Program;
let folder: string;

beforeAll(async () => {
  program = await buildProgram('support/reader-entry.ts');
  folder = await mkdtemp(join(tmpdir(), 'goforward-reader-'));
});

afterAll(async () => {
  await program.remove();
  await rm(folder, { recursive: true, force: true });
});

const VERSIONS = postgresVersions('oldest');

describe.each(VERSIONS)('a reader on the %s PostgreSQL', (version) => {
  it('that is killed during a thousand transactions reads unacknowledged changes again and skips none', async () => {
    const database = await createTestDatabase(version);
    const slot = `test_${randomBytes(6).toString('hex')}`;
    const file = join(folder, version);
    const client = new pg.Client({ connectionString: database.url });
    await client.connect();
    let reader = startReader({ url: database.url, slot, file });
    try {
      await eventually(async () => expect(await readFile(file, 'utf8')).toContain('opened'), 10_000);
      await client.query(`
        CREATE TABLE numbers (id int PRIMARY KEY); ALTER TABLE numbers REPLICA IDENTITY FULL;
        ALTER PUBLICATION test_publication ADD TABLE numbers`);
      const written: number[] = [];
      const caughtUp = () =>
        eventually(async () => expect((await readOutput(file)).ids.at(-1)).toBe(written.at(-1)), 20_000);
      for (let n = 0; n < TRANSACTIONS; n++) {
        if (KILLS.includes(n)) {
          await caughtUp();
        }
        if (KILLS.includes(n) || KILLS_AT_START.includes(n)) {
          await kill(reader);
          reader = startReader({ url: database.url, slot, file });
        }
        // One to three rows for each transaction; every tenth transaction is rolled back.
        const ids = Array.from({ length: 1 + (n % 3) }, (_, i) => n * 10 + i);
        await client.query('BEGIN');
        await client.query('INSERT INTO numbers SELECT unnest($1::int[])', [ids]);
        await client.query(n % 10 === 7 ? 'ROLLBACK' : 'COMMIT');
        if (n % 10 !== 7) written.push(...ids);
      }
      await caughtUp();
      const { ids, epochs, repeated, gaps } = await readOutput(file);
      expect(ids).toEqual(written);
      expect(epochs).toBe(1);
      expect(gaps).toBe(0);
      // Otherwise every kill came after the acknowledgement, and this test shows nothing.
      expect(repeated).toBeGreaterThan(0);
    } finally {
      await kill(reader);
      await client.end();
      await dropSlot(database.url, slot);
      await database.drop();
    }
  });
});

function startReader(options: ReaderOptions): ChildProcess {
  return spawn(process.execPath, [program.file, JSON.stringify(options)], {
    stdio: ['ignore', 'ignore', 'inherit'],
  });
}

async function kill(reader: ChildProcess): Promise<void> {
  if (reader.exitCode !== null || reader.signalCode !== null) return;
  const exited = once(reader, 'exit');
  reader.kill('SIGKILL');
  await exited;
}

/**
 * Returns what the readers wrote: row ids in the order in which each change came first, the numbers of epochs and
 * gaps, and how many changes were repeated.
 */
async function readOutput(
  file: string,
): Promise<{ ids: number[]; epochs: number; gaps: number; repeated: number }> {
  const text = await readFile(file, 'utf8');
  // A killed reader may leave its last line cut off. The next reader appends to that line and repeats the change.
  const lines = text.split('\n').filter((line) => line !== '');
  const first = new Map<string, number>();
  const epochs = new Set<string>();
  let repeated = 0;
  for (const line of lines) {
    const [lsn = '', index = '', id = ''] = line.split(' ');
    if (lsn === 'opened') {
      epochs.add(index);
      continue;
    }
    const cursor = `${lsn}/${index}`;
    const known = first.get(cursor);
    if (known === undefined) first.set(cursor, Number(id));
    else {
      // A position in the WAL always has the same change.
      expect(Number(id)).toBe(known);
      repeated += 1;
    }
  }
  return {
    ids: [...first.values()],
    epochs: epochs.size,
    gaps: lines.filter((line) => line.includes('gap')).length,
    repeated,
  };
}
