import { chmod, mkdir, mkdtemp, readdir, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { StartupError } from '../lib/startup-error.js';
import { loadGeneratedSecret } from './generated-secret.js';

let folder: string;

beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'generated-secret-'));
});

afterEach(async () => {
  await chmod(folder, 0o700);
  await rm(folder, { recursive: true });
});

async function refusal(dataDir: string): Promise<string> {
  const error: unknown = await loadGeneratedSecret(dataDir).catch((reason: unknown) => reason);
  if (!(error instanceof StartupError)) throw new Error('not refused', { cause: error });
  return error.message;
}

describe('the generated secret', () => {
  it('is generated once, and read from the file after that', async () => {
    const secret = await loadGeneratedSecret(folder);
    expect(secret).toMatch(/^[A-Za-z0-9_-]{43}$/);
    expect(await loadGeneratedSecret(folder)).toBe(secret);
  });

  it('is different in each folder', async () => {
    const secrets = await Promise.all(['a', 'b', 'c'].map((name) => loadGeneratedSecret(join(folder, name))));
    expect(new Set(secrets).size).toBe(3);
  });

  it('and its new folder are readable only by their owner', async () => {
    const dataDir = join(folder, 'deep', 'data');
    await loadGeneratedSecret(dataDir);
    expect((await stat(join(dataDir, 'jwt-secret'))).mode & 0o777).toBe(0o600);
    expect((await stat(dataDir)).mode & 0o777).toBe(0o700);
  });

  it('is the same for servers that start at the same time, and no other file remains', async () => {
    for (let round = 0; round < 20; round++) {
      const dataDir = join(folder, String(round));
      const secrets = await Promise.all(Array.from({ length: 8 }, () => loadGeneratedSecret(dataDir)));
      expect(new Set(secrets)).toEqual(new Set([await loadGeneratedSecret(dataDir)]));
      expect(await readdir(dataDir)).toEqual(['jwt-secret']);
    }
  });

  it('is read from a file that an operator wrote, without its line break', async () => {
    await writeFile(join(folder, 'jwt-secret'), `${'k'.repeat(32)}\r\n`);
    expect(await loadGeneratedSecret(folder)).toBe('k'.repeat(32));
  });

  it.each(['', '\n', 'too short', ' '.repeat(64)])(
    'is rejected, not replaced, if the file contains %j',
    async (text) => {
      const file = join(folder, 'jwt-secret');
      await writeFile(file, text);
      expect(await refusal(folder)).toBe(
        `${file} does not contain a token secret. Remove it, and the next start generates a new one.`,
      );
      expect(await readFile(file, 'utf8')).toBe(text);
    },
  );

  it('that cannot be stored is an error of one line that names the settings', async () => {
    await writeFile(join(folder, 'file'), '');
    await mkdir(join(folder, 'taken', 'jwt-secret'), { recursive: true });
    for (const dataDir of [join(folder, 'file', 'data'), join(folder, 'taken')]) {
      const message = await refusal(dataDir);
      expect(message).toContain(`Cannot store the generated token secret in ${dataDir}`);
      expect(message).toMatch(/^[^\n]*REALTIME_DATA_DIR[^\n]*REALTIME_JWT_SECRET\.$/);
    }
  });

  it.runIf(process.getuid?.() !== 0)(
    'cannot be stored where this account has no write permission',
    async () => {
      await chmod(folder, 0o500);
      expect(await refusal(folder)).toContain('(permission denied)');
    },
  );
});
