import { closeMatch } from '../lib/nearest-word.js';
import { programName } from '../lib/program-name.js';
import { StartupError } from '../lib/startup-error.js';
import { serverVersion } from '../version.js';
import type { Command } from './command.js';
import { config } from './config.js';
import { databaseUrlCommand } from './database-url.js';
import { doctor } from './doctor.js';
import { explain } from './explain.js';
import { slot } from './slot.js';
import { start } from './start.js';
import { token } from './token.js';

const COMMANDS: readonly Command[] = [start, token, config, doctor, slot, explain, databaseUrlCommand];

/** Runs the command that the arguments name, and returns the exit code. */
async function main(args: readonly string[]): Promise<number> {
  const [first, ...rest] = args;
  if (first === undefined || first === '--help' || first === '-h') return print(overview());
  if (first === '--version' || first === '-v') return print(serverVersion());
  if (first === 'help') return print(rest[0] === undefined ? overview() : helpOf(commandOf(rest[0])));
  if (first.startsWith('-'))
    throw invalid(
      `Options come after a command: ${programName()} start ${args.join(' ')}. See ${programName()} help.`,
    );
  const command = commandOf(first);
  if (rest.includes('--help') || rest.includes('-h')) return print(helpOf(command));
  return command.run(rest);
}

function commandOf(name: string): Command {
  const command = COMMANDS.find((known) => known.name === name);
  if (command !== undefined) return command;
  const names = COMMANDS.map((known) => known.name);
  const meant = closeMatch(name, names);
  const suggestion = meant === undefined ? '' : ` Did you mean ${meant}?`;
  throw invalid(
    `Unknown command ${JSON.stringify(name)}.${suggestion} The commands are ${names.join(', ')}.`,
  );
}

function overview(): string {
  const width = Math.max(...COMMANDS.map(({ name }) => name.length));
  const lines = COMMANDS.map(({ name, summary }) => `  ${name.padEnd(width)}   ${summary}`);
  return `GoForward Realtime ${serverVersion()}: channels, presence, broadcast and row changes over WebSocket

Usage: ${programName()} <command> [options]

${lines.join('\n')}

"${programName()} help <command>" prints the options of a command; --version prints the version.`;
}

function helpOf(command: Command): string {
  return `Usage: ${programName()} ${command.name} ${command.usage}\n\n${command.help()}`;
}

function print(text: string): number {
  process.stdout.write(`${text}\n`);
  return 0;
}

function invalid(message: string): StartupError {
  return new StartupError(message, { exitCode: 2 });
}

/** Prints one line for what the user can fix, a stack for a defect, and returns the exit code. */
function report(error: unknown): number {
  if (error instanceof StartupError) {
    process.stderr.write(`${error.message}\n`);
    return error.exitCode;
  }
  process.stderr.write(`Unexpected error: ${error instanceof Error ? error.stack : String(error)}\n`);
  return 1;
}

// A reader that stops reading, such as `head`, must not end a server.
process.stdout.on('error', () => undefined);
process.exitCode = await main(process.argv.slice(2)).catch(report);
process.exit();
