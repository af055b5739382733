import { randomBytes } from 'node:crypto';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { JWTPayload } from 'jose';
import { expect } from 'vitest';
import { startCli } from '../../support/cli.js';
import { eventually } from '../../support/eventually.js';
import { createTestDatabase, dropSlot, sql } from '../../support/postgres-database.js';
import { subscribe } from '../../support/row-changes.js';
import type { ServerProcess } from '../../support/server-process.js';
import { call } from '../../support/test-server.js';
import { signClaims } from '../../support/tokens.js';
import type { Attack } from './attack.js';
import { CHANNEL, type Target } from './target.js';
import { Victim } from './victim.js';

const SECRET = 'a secret for attacks, thirty-two bytes or more';
const HEAP_MB = 512;
const VICTIM = 'victim';

/** The rows of a user are visible to that user alone. */
const NOTES = `
  CREATE TABLE notes (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, user_id text NOT NULL, body text);
  ALTER TABLE notes ENABLE ROW LEVEL SECURITY;
  CREATE POLICY own_notes ON notes FOR SELECT USING (user_id = current_setting('app.current_user_id', true));`;

/** A server, a database and a victim, for one attack. */
export class Arena {
  private constructor(
    readonly target: Target,
    readonly victim: Victim,
    readonly server: ServerProcess,
  ) {}

  static async open({ settings = {}, sign = signWithSecret, schema = '' }: Attack): Promise<Arena> {
    const database = await createTestDatabase();
    const dataDir = await mkdtemp(join(tmpdir(), 'goforward-attack-'));
    const slot = `attack_${randomBytes(6).toString('hex')}`;
    await sql(database.url, `${NOTES} ${schema}`);
    const server = startCli(['start'], {
      cwd: dataDir,
      env: {
        NODE_OPTIONS: `--max-old-space-size=${HEAP_MB}`,
        DATABASE_URL: database.url,
        REALTIME_PORT: '0',
        REALTIME_DATA_DIR: dataDir,
        REALTIME_JWT_SECRET: SECRET,
        REALTIME_REPLICATION_SLOT: slot,
        REALTIME_LOG_FORMAT: 'json',
        ...settings,
      },
    });
    await server.started();
    const target = targetOf(server, database.url, sign, async () => {
      server.kill('SIGTERM');
      await server.exited;
      await dropSlot(database.url, slot);
      await database.drop();
      await rm(dataDir, { recursive: true, force: true });
    });
    await eventually(async () => {
      const { parts } = (await target.call('GET', '/readyz')).body;
      expect(parts.row_changes).toEqual({ status: 'streaming' });
    }, 20_000);
    await subscribe(target, CHANNEL, { table: 'notes' });
    const victim = await Victim.start({
      port: target.port,
      databaseUrl: database.url,
      token: await target.token(VICTIM),
      channel: CHANNEL,
      userId: VICTIM,
    });
    return new Arena(target, victim, server);
  }

  async close(): Promise<void> {
    await this.victim.remove();
    await this.target.stop();
  }

  /** The memory of the server's process, in MB. */
  async memory(): Promise<number> {
    const status = await readFile(`/proc/${this.target.pid}/status`, 'utf8');
    return Number(/^VmRSS:\s+(\d+)/m.exec(status)?.[1] ?? 0) / 1024;
  }

  /** The error lines of the server's log, and everything that is no line of it: a stack of a crash. */
  problemsInLog(): string[] {
    return this.server.stderr.split('\n').filter((line) => line !== '' && !/^\{"level":[1-4]0,/.test(line));
  }
}

function signWithSecret(claims: JWTPayload): Promise<string> {
  return signClaims(claims, SECRET);
}

function targetOf(
  server: ServerProcess,
  databaseUrl: string,
  sign: Target['sign'],
  stop: () => Promise<void>,
): Target {
  const url = server.url.replace('localhost', '127.0.0.1');
  return {
    port: Number(new URL(url).port),
    url,
    databaseUrl,
    metricsPort: undefined,
    pid: server.pid,
    sign,
    token: (userId, role = 'user') => sign({ user_id: userId, role }),
    call: (method, path, options) => call(url, method, path, options),
    sql: (text) => sql(databaseUrl, text),
    stop,
  };
}
