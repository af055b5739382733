import { execFileSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { decodeJwt, exportPKCS8, exportSPKI, generateKeyPair, jwtVerify } from 'jose';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { type Finished, runCli } from '../support/cli.js';
import { createTestDatabase, sql } from '../support/postgres-database.js';

const ROOT = fileURLToPath(new URL('../..', import.meta.url));
const SECRET = 'the secret of the command line tests';
const VERSION = (
  JSON.parse(readFileSync(new URL('../../packages/server/package.json', import.meta.url), 'utf8')) as {
    version: string;
  }
).version;

let folder: string;
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'goforward-cli-'));
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

const run = (args: readonly string[], env: Readonly<Record<string, string>> = {}) =>
  runCli(args, { cwd: folder, env });

/** Expects the exit code and one matching line on stderr: nothing on stdout, no stack. */
function expectOneLine({ code, stdout, stderr }: Finished, exitCode: number, line: RegExp): void {
  expect({ code, stdout, stderr }).toEqual({
    code: exitCode,
    stdout: '',
    stderr: expect.stringMatching(/^[^\n]+\n$/),
  });
  expect(stderr).toMatch(line);
  expect(stderr).not.toMatch(/^\s+at |node:internal|Error:/m);
}

describe('help', () => {
  test.each([[[]], [['--help']], [['-h']], [['help']]])('%j prints the list of commands', async (args) => {
    const { code, stdout, stderr } = await run(args);
    expect([code, stderr]).toEqual([0, '']);
    expect(stdout).toContain('Usage: npx goforward-realtime <command>');
    for (const name of ['start', 'token', 'config', 'doctor', 'slot', 'explain', 'database-url'])
      expect(stdout).toMatch(new RegExp(`^  ${name} +\\S`, 'm'));
  });

  test.each([
    ['start', '--max-channels <number>'],
    ['token', '--expires <duration>'],
    ['config', 'Secrets are masked'],
    ['doctor', 'Prints each problem with its number'],
    ['slot', 'the server reports a gap to its clients'],
    ['explain', '2 for invalid arguments'],
  ])('of %s is the same for --help, -h and help, and lists its options', async (command, text) => {
    const [shown, ...others] = await Promise.all([
      run([command, '--help']),
      run([command, '-h']),
      run(['help', command]),
      run([command, '--port', '1', '--help']),
    ]);
    expect([shown.code, shown.stderr]).toEqual([0, '']);
    expect(shown.stdout).toMatch(new RegExp(`^Usage: npx goforward-realtime ${command} .*\n\n\\S`));
    expect(shown.stdout.replaceAll(/\s+/g, ' ')).toContain(text);
    for (const line of shown.stdout.split('\n')) expect(line.length).toBeLessThanOrEqual(140);
    for (const other of others) expect(other).toEqual(shown);
  });

  test.each(['--version', '-v'])('%s prints the version of the package', async (flag) => {
    expect(await run([flag])).toEqual({ code: 0, stdout: `${VERSION}\n`, stderr: '' });
  });

  test('names the command as the user runs it: globally installed or with npx', () => {
    const link = join(folder, 'goforward-realtime');
    symlinkSync(join(ROOT, 'packages/server/bin/goforward-realtime.mjs'), link);
    const usage = (file: string) =>
      execFileSync(file, ['help', 'token'], { encoding: 'utf8' }).split('\n')[0];
    expect(usage(link)).toMatch(/^Usage: goforward-realtime token /);
    const local = join(ROOT, 'node_modules/.bin/goforward-realtime');
    expect(usage(local)).toMatch(/^Usage: npx goforward-realtime token /);
  });
});

describe('token', () => {
  test('prints a token for the given user and role, and nothing else', async () => {
    const args = ['token', '--user', 'ada', '--role', 'admin', '--expires', '1h'];
    const { code, stdout, stderr } = await run(args, { REALTIME_JWT_SECRET: SECRET });
    expect([code, stderr]).toEqual([0, '']);
    expect(stdout).toMatch(/^[\w-]+\.[\w-]+\.[\w-]+\n$/);
    const { payload } = await jwtVerify(stdout.trim(), new TextEncoder().encode(SECRET));
    expect(payload).toEqual({
      sub: 'ada',
      role: 'admin',
      iat: expect.any(Number),
      exp: (payload.iat ?? 0) + 3600,
    });
  });

  test('prints by default a token of a new user, with the role user, for a day', async () => {
    const { stdout } = await run(['token'], { REALTIME_JWT_SECRET: SECRET });
    const claims = decodeJwt(stdout.trim());
    expect(claims).toMatchObject({ sub: expect.stringMatching(/^[0-9a-f-]{36}$/), role: 'user' });
    expect((claims.exp ?? 0) - (claims.iat ?? 0)).toBe(24 * 3600);
  });

  test('with --expires never prints a token without expiry, with the configured issuer and audience', async () => {
    const { stdout } = await run(['token', '--expires', 'never', '--jwt-issuer', 'me'], {
      REALTIME_JWT_SECRET: SECRET,
      REALTIME_JWT_AUDIENCE: 'realtime',
    });
    const claims = decodeJwt(stdout.trim());
    expect(claims.exp).toBeUndefined();
    expect(claims).toMatchObject({ iss: 'me', aud: 'realtime' });
  });

  test('without a secret generates one, keeps it and signs with it', async () => {
    const dataDir = join(folder, 'generated');
    const first = await run(['token', '--user', 'ada', '--data-dir', dataDir]);
    const secret = readFileSync(join(dataDir, 'jwt-secret'), 'utf8').trim();
    const second = await run(['token', '--user', 'ada'], { REALTIME_DATA_DIR: dataDir });
    for (const { stdout } of [first, second]) {
      await expect(jwtVerify(stdout.trim(), new TextEncoder().encode(secret))).resolves.toBeDefined();
    }
    expect(first.stderr).toBe(
      `Generated a new secret in ${dataDir}. A server with another data folder refuses this token.\n`,
    );
    expect(second.stderr).toBe('');
    expect(`${first.stdout}${first.stderr}`).not.toContain(secret);
  });

  test('fails if only a public key is configured', async () => {
    const { publicKey } = await generateKeyPair('ES256', { extractable: true });
    const env = { REALTIME_JWT_PUBLIC_KEY: await exportSPKI(publicKey) };
    expectOneLine(await run(['token'], env), 1, /Sign tokens with the matching private key/);
  });

  test.each([
    [['--expires', 'tomorrow'], /--expires must be a duration/],
    [['--user', ''], /--user and --role must not be empty/],
  ])('with %j is refused', async (args, line) => {
    expectOneLine(await run(['token', ...args], { REALTIME_JWT_SECRET: SECRET }), 2, line);
  });
});

describe('config', () => {
  test('prints every setting with its origin, and masks secrets', async () => {
    const cwd = mkdtempSync(join(folder, 'config-'));
    writeFileSync(
      join(cwd, '.env'),
      'DATABASE_URL=postgres://me:hidden-password@db.example/app\nREALTIME_MAX_CHANNELS=5\nREALTIME_PORT=9\n',
    );
    const { code, stdout, stderr } = await runCli(['config', '--max-channels', '7'], {
      cwd,
      env: { REALTIME_JWT_SECRET: SECRET, REALTIME_MAX_CHANNELS: '6', REALTIME_PORT: '8' },
    });
    expect([code, stderr]).toEqual([0, '']);
    const rows = new Map(
      stdout
        .trim()
        .split('\n')
        .map((line) => [line.split(/ +/)[0], line.split(/ {2,}/).slice(1)]),
    );
    expect(rows.get('REALTIME_MAX_CHANNELS')).toEqual(['7', 'flag']);
    expect(rows.get('REALTIME_PORT')).toEqual(['8', 'environment']);
    expect(rows.get('DATABASE_URL')).toEqual(['postgres://me:********@db.example/app', '.env']);
    expect(rows.get('REALTIME_JWT_SECRET')).toEqual(['********', 'environment']);
    expect(rows.get('REALTIME_CHANNEL_TTL')).toEqual(['24h', 'default']);
    expect(stdout).not.toMatch(/hidden-password|the secret of/);
  });
});

describe('secrets in files', () => {
  test('sign tokens, and config prints the file but not the secret', async () => {
    const path = join(folder, 'jwt-secret-file');
    writeFileSync(path, `${SECRET}\n`);
    const url = join(folder, 'database-url-file');
    writeFileSync(url, 'postgres://me:hidden-password@db.example/app\n');
    const env = { REALTIME_JWT_SECRET_FILE: path, DATABASE_URL_FILE: url };
    const token = (await run(['token'], env)).stdout.trim();
    await expect(jwtVerify(token, new TextEncoder().encode(SECRET))).resolves.toBeDefined();
    const { code, stdout, stderr } = await run(['config'], env);
    expect([code, stderr]).toEqual([0, '']);
    expect(stdout).toMatch(/^REALTIME_JWT_SECRET +\*{8} +environment, file .*jwt-secret-file$/m);
    expect(stdout).toContain(`environment, file ${url}`);
    expect(stdout).not.toMatch(/hidden-password|the secret of/);
  });

  test('that cannot be read print one line and exit with 2', async () => {
    const path = join(folder, 'no-such-file');
    const line = /^REALTIME_JWT_SECRET_FILE: ".*no-such-file" cannot be read: there is no such file\.$/m;
    expectOneLine(await run(['start'], { REALTIME_JWT_SECRET_FILE: path }), 2, line);
  });
});

describe('an invalid setting or argument prints one line and exits with 2', () => {
  test.each<[what: string, args: string[], env: Record<string, string>, line: RegExp]>([
    [
      'a misspelt command',
      ['strat'],
      {},
      /^Unknown command "strat"\. Did you mean start\? The commands are start, /,
    ],
    ['help for a misspelt command', ['help', 'tokne'], {}, /^Unknown command "tokne"\. Did you mean token\?/],
    [
      'an unknown command that resembles none',
      ['frobnicate'],
      {},
      /^Unknown command "frobnicate"\. The commands are start, /,
    ],
    [
      'a flag without a command',
      ['--port', '9'],
      {},
      /^Options come after a command: npx goforward-realtime start --port 9\./,
    ],
    [
      'a misspelt flag that only this command has',
      ['token', '--usr', 'ada'],
      {},
      /^Unknown flag --usr\. Did you mean --user\?$/m,
    ],
    ['a misspelt action', ['slot', 'rest'], {}, /^Unknown action "rest"\. Did you mean reset\?/],
    [
      'a misspelt flag',
      ['start', '--max-chanels', '5'],
      {},
      /^Unknown flag --max-chanels\. Did you mean --max-channels\?$/m,
    ],
    [
      'a misspelt setting',
      ['start'],
      { REALTIME_MAX_CHANELS: '5' },
      /REALTIME_MAX_CHANELS\. Did you mean REALTIME_MAX_CHANNELS\?/,
    ],
    [
      'a value that does not parse',
      ['start'],
      { REALTIME_CHANNEL_TTL: 'soon' },
      /^REALTIME_CHANNEL_TTL must be .*, not "soon"/,
    ],
    [
      'two keys for tokens at once',
      ['start'],
      { REALTIME_JWT_SECRET: SECRET, REALTIME_JWKS_URL: 'https://x.example' },
      /Set only the one that verifies tokens/,
    ],
    ['a secret that is too short', ['start'], { REALTIME_JWT_SECRET: 'tooshort' }, /at least 16 bytes/],
    [
      'a public key that cannot be parsed',
      ['start'],
      { REALTIME_JWT_PUBLIC_KEY: 'nonsense' },
      /REALTIME_JWT_PUBLIC_KEY must be a public key/,
    ],
  ])('%s', async (_what, args, env, line) => {
    const finished = await run(args, env);
    expectOneLine(finished, 2, line);
    expect(finished.stderr).not.toContain('tooshort');
  });

  test('a private key in place of the public one is refused and not printed', async () => {
    const { privateKey } = await generateKeyPair('ES256', { extractable: true });
    const pem = await exportPKCS8(privateKey);
    const finished = await run(['start'], { REALTIME_JWT_PUBLIC_KEY: pem });
    expectOneLine(finished, 2, /a private key does not belong here/);
    expect(finished.stderr).not.toContain(pem.split('\n')[1]);
  });
});

describe('a start that fails prints one line and exits with 1', () => {
  test('if the port is in use', async () => {
    const database = await createTestDatabase();
    const taken = createServer();
    await new Promise<void>((resolve) => taken.listen(0, '127.0.0.1', resolve));
    const address = taken.address();
    const port = typeof address === 'object' && address !== null ? String(address.port) : '';
    const env = { DATABASE_URL: database.url, REALTIME_JWT_SECRET: SECRET };
    const finished = await run(['start', '--port', port], env);
    expectOneLine(finished, 1, new RegExp(`^Port ${port} on 127\\.0\\.0\\.1 is taken by another program`));
    taken.close();
    await database.drop();
  });

  test('if the data folder is not writable', async () => {
    writeFileSync(join(folder, 'a-file'), '');
    const dataDir = join(folder, 'a-file', 'data');
    const env = {
      DATABASE_URL: 'postgres://x@127.0.0.1:9/x',
      REALTIME_DATA_DIR: dataDir,
      REALTIME_PORT: '0',
    };
    expectOneLine(
      await run(['start'], env),
      1,
      /^Cannot store the generated token secret in .*REALTIME_DATA_DIR/,
    );
  });

  test('if the database does not exist', async () => {
    const database = await createTestDatabase();
    const url = new URL(database.url);
    url.pathname = '/no_such_database';
    const env = { DATABASE_URL: url.href, REALTIME_JWT_SECRET: SECRET, REALTIME_PORT: '0' };
    const finished = await run(['start'], env);
    expectOneLine(finished, 1, /there is no database "no_such_database"/);
    if (url.password !== '') expect(finished.stderr).not.toContain(url.password);
    await database.drop();
  });
});

describe('doctor', () => {
  test('prints each problem with its number and its fix, or that it found none', async () => {
    const database = await createTestDatabase();
    const login = `doctor_${Date.now().toString(36)}`;
    // Slots belong to the whole cluster, which all tests share: another test may use the default slot name.
    const healthy = await run(['doctor'], { DATABASE_URL: database.url, REALTIME_REPLICATION_SLOT: login });
    expect(healthy).toEqual({ code: 0, stdout: 'No problems found.\n', stderr: '' });
    try {
      await sql(
        database.url,
        `CREATE ROLE ${login} LOGIN PASSWORD 'p'; GRANT realtime_subscriber TO ${login};
         DROP SCHEMA realtime CASCADE; GRANT CREATE ON DATABASE ${database.name} TO ${login}`,
      );
      const url = Object.assign(new URL(database.url), { username: login, password: 'p' });
      const automatic = await run(['doctor'], { DATABASE_URL: url.href });
      expect([automatic.code, automatic.stdout]).toEqual([
        0,
        'Row changes are read by triggers: the login is not allowed to replicate.\nNo problems found.\n',
      ]);
      const logical = await run(['doctor', '--change-source', 'logical'], { DATABASE_URL: url.href });
      expect([logical.code, logical.stdout]).toEqual([
        1,
        expect.stringContaining(
          `GF104 error: the login is not allowed to replicate\n  ALTER ROLE "${login}" REPLICATION;`,
        ),
      ]);
    } finally {
      await sql(database.url, `DROP OWNED BY ${login}; DROP ROLE ${login}`);
      await database.drop();
    }
  });

  test('says that DATABASE_URL is not set', async () => {
    expectOneLine(await run(['doctor']), 1, /^DATABASE_URL is not set/);
  });
});
