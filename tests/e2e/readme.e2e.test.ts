import { type ChildProcess, spawn } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { eventually } from '../support/eventually.js';

const ROOT = fileURLToPath(new URL('../..', import.meta.url));
/** Allows for a build, which `npm start` may do first. */
const STEP_MS = 60_000;

/** Runs a shell for one of the terminals that the README names. Commands are pasted one after the other. */
class Terminal {
  output = '';
  readonly #shell: ChildProcess;

  constructor(env: NodeJS.ProcessEnv) {
    this.#shell = spawn('bash', { cwd: ROOT, env, detached: true, stdio: ['pipe', 'pipe', 'pipe'] });
    for (const stream of [this.#shell.stdout, this.#shell.stderr])
      stream?.on('data', (data: Buffer) => {
        this.output += data.toString();
      });
  }

  paste(commands: string): void {
    this.#shell.stdin?.write(`${commands}\n`);
  }

  /** Waits until the terminal has printed the text. */
  async shows(text: string): Promise<void> {
    await eventually(() => expect(this.output).toContain(text), STEP_MS);
  }

  /** Ends the shell and its commands, as Ctrl-C and closing the window do. */
  async close(): Promise<void> {
    const { pid, exitCode } = this.#shell;
    if (pid === undefined || exitCode !== null) return;
    const closed = new Promise((resolve) => this.#shell.once('close', resolve));
    this.#shell.stdin?.end();
    process.kill(-pid, 'SIGTERM');
    await closed;
  }
}

/** Returns the commands of the README in order, each with the terminal that the text before it names. */
function commands(): { terminal: string; text: string }[] {
  const readme = readFileSync(join(ROOT, 'README.md'), 'utf8');
  const firstSteps = readme.slice(0, readme.indexOf('## Use your PostgreSQL'));
  const found: { terminal: string; text: string }[] = [];
  let terminal = '';
  for (const [, named, text] of firstSteps.matchAll(/\*\*(terminal \d)\*\*|^```bash\n(.*?)^```$/gms)) {
    if (named !== undefined) terminal = named;
    else if (text !== undefined) found.push({ terminal, text });
  }
  return found;
}

const folder = mkdtempSync(join(tmpdir(), 'goforward-readme-'));
const terminals = new Map<string, Terminal>();
let port = 0;

beforeAll(async () => {
  port = await freePort();
});

afterAll(async () => {
  for (const terminal of [...terminals.values()].toReversed()) await terminal.close();
  rmSync(folder, { recursive: true, force: true });
});

test(
  'every command of the README works in its terminal, up to the first row change',
  async () => {
    const steps = commands();
    expect(steps.map(({ terminal }) => terminal)).toEqual([
      'terminal 1',
      'terminal 2',
      'terminal 3',
      'terminal 3',
      'terminal 3',
      'terminal 3',
    ]);
    const results = [
      ['terminal 1', 'Admin token'],
      ['terminal 2', '"event":"connected"'],
      ['terminal 2', '"message":"Hello!"'],
      ['terminal 3', 'subscription_id'],
      ['terminal 2', '"content":"for me"'],
      ['terminal 3', 'messages_select_policy'],
    ] as const;
    for (const [n, { terminal, text }] of steps.entries()) {
      terminalOf(terminal).paste(text.replaceAll('localhost:8080', `localhost:${port}`));
      const [shown, expected] = results[n] ?? ['', ''];
      await terminalOf(shown).shows(expected);
    }
    expect(terminalOf('terminal 2').output).not.toContain('for somebody else');
    expect(terminalOf('terminal 3').output).not.toMatch(/Error|not found|AUTH_FAILED/);
  },
  3 * STEP_MS,
);

/** Returns a terminal of a new user, who has set nothing: only the port, the folder and the log differ. */
function terminalOf(name: string): Terminal {
  const known = terminals.get(name);
  if (known !== undefined) return known;
  const { DATABASE_URL: _, NODE_ENV: __, ...rest } = process.env;
  const own = {
    REALTIME_PORT: String(port),
    REALTIME_DATA_DIR: join(folder, 'data'),
    // What `auto` is on a terminal.
    REALTIME_LOG_FORMAT: 'pretty',
  };
  const terminal = new Terminal({ ...rest, ...own, npm_config_update_notifier: 'false' });
  terminals.set(name, terminal);
  return terminal;
}

async function freePort(): Promise<number> {
  const server = createServer();
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const address = server.address();
  await new Promise((resolve) => server.close(resolve));
  if (typeof address !== 'object' || address === null) throw new Error('the socket has no port');
  return address.port;
}
