import { StartupError } from '../lib/startup-error.js';
import { serverVersion } from '../version.js';
import type { Command } from './command.js';
import { config } from './config.js';
import { doctor } from './doctor.js';
import { explain } from './explain.js';
import { slot } from './slot.js';
import { start } from './start.js';
import { token } from './token.js';

const COMMANDS: readonly Command[] = [start, token, config, doctor, slot, explain];

/** Runs the command that the arguments name, and answers the exit code. */
async function main(args: readonly string[]): Promise<number> {
  const [first = '', ...rest] = args;
  if (first === '--version' || first === '-v') return print(serverVersion());
  if (first === '--help' || first === '-h' || first === 'help') return print(overview());
  const command = COMMANDS.find(({ name }) => name === first);
  if (command === undefined && first !== '' && !first.startsWith('-')) {
    throw new StartupError(
      `Unknown command ${JSON.stringify(first)}. There are ${COMMANDS.map(({ name }) => name).join(', ')}.`,
      {
        exitCode: 2,
      },
    );
  }
  const own = command === undefined ? args : rest;
  if (own.includes('--help') || own.includes('-h')) return print((command ?? start).help());
  return (command ?? start).run(own);
}

function overview(): string {
  const width = Math.max(...COMMANDS.map(({ name }) => name.length));
  const lines = COMMANDS.map(({ name, summary }) => `  ${name.padEnd(width)}   ${summary}`);
  return `GoForward Realtime ${serverVersion()}: channels, presence and broadcast over WebSocket

Usage: goforward-realtime <command> [options]

${lines.join('\n')}

goforward-realtime <command> --help tells the options of a command.`;
}

function print(text: string): number {
  process.stdout.write(`${text}\n`);
  return 0;
}

/** What its user can mend is one line; anything else is a defect, and its stack helps to mend that. */
function report(error: unknown): number {
  if (error instanceof StartupError) {
    process.stderr.write(`${error.message}\n`);
    return error.exitCode;
  }
  process.stderr.write(`Unexpected error: ${error instanceof Error ? error.stack : String(error)}\n`);
  return 1;
}

// Whoever reads what is printed may have read enough: that must not end a server.
process.stdout.on('error', () => undefined);
process.exitCode = await main(process.argv.slice(2)).catch(report);
process.exit();
