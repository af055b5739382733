import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { silentLog } from '../../lib/log.js';
import { chooseAccount } from './choose-account.js';
import type { RunProgram } from './run-program.js';

const isUnix = process.getuid !== undefined;

/** Simulates a system with these accounts (user ID by name); `creator` is the program that can add one. */
function system(accounts: Record<string, number>, creator?: 'useradd' | 'adduser'): RunProgram {
  return (file, args) => {
    const name = args.at(-1) ?? '';
    if (file === creator) accounts[name] = 999;
    const id = file === 'id' ? accounts[name] : undefined;
    const ok = id !== undefined || file === creator;
    return Promise.resolve({ ok, stdout: `${id ?? ''}\n`, stderr: '' });
  };
}

describe.skipIf(!isUnix)('the account that runs PostgreSQL', () => {
  beforeEach(() => {
    vi.spyOn(process, 'getuid').mockReturnValue(0);
  });

  afterEach(() => {
    vi.restoreAllMocks();
  });

  it('is our own where the server does not run as root', async () => {
    vi.spyOn(process, 'getuid').mockReturnValue(1000);
    expect(await chooseAccount(silentLog, system({ postgres: 70 }))).toBeUndefined();
  });

  it('is postgres where that account exists', async () => {
    const run = system({ postgres: 70, goforward: 999, nobody: 65_534 }, 'useradd');
    expect(await chooseAccount(silentLog, run)).toEqual({ name: 'postgres', uid: 70, gid: 70 });
  });

  it('is the account that a previous start created', async () => {
    const run = system({ goforward: 998, nobody: 65_534 }, 'useradd');
    expect(await chooseAccount(silentLog, run)).toEqual({ name: 'goforward', uid: 998, gid: 998 });
  });

  it.each(['useradd', 'adduser'] as const)('is created by %s, and the log says so', async (program) => {
    const info = vi.fn();
    const run = system({ nobody: 65_534 }, program);
    expect(await chooseAccount({ ...silentLog, info }, run)).toEqual({
      name: 'goforward',
      uid: 999,
      gid: 999,
    });
    expect(info).toHaveBeenCalledOnce();
  });

  it('is nobody where no account can be created', async () => {
    expect(await chooseAccount(silentLog, system({ nobody: 65_534 }))).toMatchObject({ name: 'nobody' });
  });

  it('is never root under another name', async () => {
    expect(await chooseAccount(silentLog, system({ postgres: 0, nobody: 65_534 }))).toMatchObject({
      uid: 65_534,
    });
  });
});
