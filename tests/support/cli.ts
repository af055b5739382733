import { fileURLToPath } from 'node:url';
import { type ProcessOptions, ServerProcess } from './server-process.js';

/** The compiled command line, as users run it. `npm test` builds it first. */
const MAIN = fileURLToPath(new URL('../../packages/server/dist/cli/main.js', import.meta.url));

/** The result of a command. */
export interface Finished {
  readonly code: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

/** Starts `goforward-realtime` with these arguments. */
export function startCli(args: readonly string[], options: ProcessOptions): ServerProcess {
  return new ServerProcess(process.execPath, [MAIN, ...args], options);
}

/** Runs `goforward-realtime` and waits until it exits. */
export async function runCli(args: readonly string[], options: ProcessOptions): Promise<Finished> {
  const child = startCli(args, options);
  const code = await child.exited;
  return { code, stdout: child.stdout, stderr: child.stderr };
}
