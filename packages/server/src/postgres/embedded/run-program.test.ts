import { describe, expect, it } from 'vitest';
import { runProgram } from './run-program.js';

/** Runs a script of the shell and aborts it as soon as it has said that it runs. */
async function aborted(script: string): Promise<{ stdout: string; ms: number }> {
  const abort = new AbortController();
  const running = runProgram('/bin/sh', ['-c', script], { signal: abort.signal });
  await new Promise((resolve) => setTimeout(resolve, 300));
  const since = performance.now();
  abort.abort();
  const { ok, stdout } = await running;
  expect(ok).toBe(false);
  return { stdout, ms: performance.now() - since };
}

describe.skipIf(process.platform === 'win32')('a program that is aborted', () => {
  it('may clean up', async () => {
    const { stdout, ms } = await aborted("trap 'echo cleaned up; exit 1' TERM; sleep 60 & wait");
    expect(stdout).toBe('cleaned up\n');
    expect(ms).toBeLessThan(1_500);
  });

  it('is ended by force with its children when it does not end in two seconds', async () => {
    const { ms } = await aborted("trap '' TERM; sleep 60; sleep 60");
    expect(ms).toBeGreaterThan(1_500);
    expect(ms).toBeLessThan(10_000);
  });
});
