import pg from 'pg';
import { type Binaries, programPath } from './binaries.js';
import { SUPERUSER } from './cluster.js';
import { errorCode } from './folder-problem.js';
import { runProgram } from './run-program.js';
import type { Account } from './system-account.js';

/** Returns the superuser's connection string of the embedded PostgreSQL. */
export function superuserUrl(port: number, password: string): string {
  return `postgres://${SUPERUSER}:${password}@127.0.0.1:${port}/postgres`;
}

/** Whether the password is accepted. Throws for any other failure. */
export async function canLogIn(url: string): Promise<boolean> {
  const client = new pg.Client({ connectionString: url, connectionTimeoutMillis: 10_000 });
  client.on('error', () => undefined);
  try {
    await client.connect();
    return true;
  } catch (error) {
    if (errorCode(error) === '28P01') return false;
    throw error;
  } finally {
    await client.end();
  }
}

/**
 * Sets the superuser's password in a cluster that is not running, in single-user mode. Returns false when
 * that failed.
 */
export async function resetPassword(
  binaries: Binaries,
  cluster: string,
  account: Account | undefined,
  password: string,
): Promise<boolean> {
  const { ok, stderr } = await runProgram(
    programPath(binaries, 'postgres'),
    ['--single', '-D', cluster, '-c', 'log_min_error_statement=panic', 'postgres'],
    { account, input: `ALTER ROLE ${SUPERUSER} LOGIN PASSWORD '${password}'\n` },
  );
  return ok && !/ERROR|FATAL|PANIC/.test(stderr);
}
