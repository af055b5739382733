import type { Log } from '../../lib/log.js';
import { type RunProgram, runProgram } from './run-program.js';
import type { Account } from './system-account.js';

/** The system account that the server creates where there is none for PostgreSQL. */
const OWN_ACCOUNT = 'goforward';

/**
 * Commands that create a system account without home and login: useradd (shadow, nearly everywhere), adduser
 * (busybox).
 */
const CREATE_COMMANDS: readonly (readonly [file: string, ...args: string[]])[] = [
  [
    'useradd',
    '--system',
    '--user-group',
    '--no-create-home',
    '--home-dir',
    '/nonexistent',
    '--shell',
    '/bin/false',
    OWN_ACCOUNT,
  ],
  ['adduser', '-S', '-D', '-H', '-h', '/nonexistent', '-s', '/bin/false', OWN_ACCOUNT],
];

/**
 * Chooses the account that runs PostgreSQL when the server runs as root, which PostgreSQL refuses:
 * `postgres`, else an account that the server creates, else `nobody`. initdb requires an account with an
 * entry in the user database. Returns undefined when the server does not run as root.
 */
export async function chooseAccount(log: Log, run: RunProgram = runProgram): Promise<Account | undefined> {
  if (process.getuid?.() !== 0) return undefined;
  for (const name of ['postgres', '_postgres', OWN_ACCOUNT]) {
    const account = await lookUp(name, run);
    if (account !== undefined) return account;
  }
  for (const [file, ...args] of CREATE_COMMANDS) {
    const created = await run(file, args);
    const account = created.ok ? await lookUp(OWN_ACCOUNT, run) : undefined;
    if (account === undefined) continue;
    log.info(
      { account: OWN_ACCOUNT, uid: account.uid },
      'System account created to run the embedded PostgreSQL',
    );
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
