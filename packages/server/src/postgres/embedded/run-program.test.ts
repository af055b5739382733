import { existsSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { runProgram } from './run-program.js';

let folder: string;

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'goforward-program-'));
});

afterEach(() => {
  rmSync(folder, { recursive: true, force: true });
});

/**
 * Runs a shell script, aborts it as soon as it has created the file of its argument, and returns its output.
 */
async function runAndAbort(script: string): Promise<string> {
  const abort = new AbortController();
  const isRunning = join(folder, 'running');
  const running = runProgram('/bin/sh', ['-c', script, 'sh', isRunning], { signal: abort.signal });
  await vi.waitFor(() => expect(existsSync(isRunning)).toBe(true), { timeout: 10_000, interval: 5 });
  abort.abort();
  const { ok, stdout } = await running;
  expect(ok).toBe(false);
  return stdout;
}

describe.skipIf(process.platform === 'win32')('a program that is runAndAbort', () => {
  it('may clean up', async () => {
    const script = `trap 'echo cleaned up; exit 1' TERM; : > "$1"; sleep 60 & wait`;
    expect(await runAndAbort(script)).toBe('cleaned up\n');
  });

  it('is killed together with its children when it does not end by itself', async () => {
    expect(await runAndAbort(`trap '' TERM; : > "$1"; sleep 60; sleep 60`)).toBe('');
  });
});
