import type { Log } from '../../lib/log.js';
import type { Account } from './account.js';
import { type RunProgram, runProgram } from './run-program.js';

/** The account that we make where PostgreSQL has none. */
const OWN = 'goforward';

/** Shadow's useradd is nearly everywhere, busybox has adduser; each makes a system account without home and login. */
const WAYS_TO_MAKE: readonly (readonly [file: string, ...args: string[]])[] = [
  [
    'useradd',
    '--system',
    '--user-group',
    '--no-create-home',
    '--home-dir',
    '/nonexistent',
    '--shell',
    '/bin/false',
    OWN,
  ],
  ['adduser', '-S', '-D', '-H', '-h', '/nonexistent', '-s', '/bin/false', OWN],
];

/**
 * Whom PostgreSQL runs as when we are root, whom it refuses: the account `postgres`, else one that we make,
 * else `nobody`. initdb wants an account with an entry in the list of users. Undefined when we are not root.
 */
export async function chooseAccount(log: Log, run: RunProgram = runProgram): Promise<Account | undefined> {
  if (process.getuid?.() !== 0) return undefined;
  for (const name of ['postgres', '_postgres', OWN]) {
    const account = await lookUp(name, run);
    if (account !== undefined) return account;
  }
  for (const [file, ...args] of WAYS_TO_MAKE) {
    const made = await run(file, args);
    const account = made.ok ? await lookUp(OWN, run) : undefined;
    if (account === undefined) continue;
    log.info({ account: OWN, uid: account.uid }, 'Made a system account to run the embedded PostgreSQL');
    return account;
  }
  return lookUp('nobody', run);
}

async function lookUp(name: string, run: RunProgram): Promise<Account | undefined> {
  const [uid, gid] = await Promise.all([idOf('-u', name, run), idOf('-g', name, run)]);
  return uid === undefined || gid === undefined || uid === 0 ? undefined : { name, uid, gid };
}

async function idOf(which: '-u' | '-g', name: string, run: RunProgram): Promise<number | undefined> {
  const { ok, stdout } = await run('id', [which, name]);
  const id = Number.parseInt(stdout, 10);
  return ok && Number.isSafeInteger(id) ? id : undefined;
}
