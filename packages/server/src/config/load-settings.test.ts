import { generateKeyPairSync } from 'node:crypto';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { StartupError } from '../lib/startup-error.js';
import { loadSettings, readEnvFile, type SettingSources } from './load-settings.js';
import { SETTING_ROWS } from './settings-table.js';

const SECRET = 'a secret of more than sixteen bytes';

function load(sources: Partial<SettingSources>) {
  return loadSettings({ flags: {}, env: {}, envFile: {}, ...sources });
}

function errorOf(sources: Partial<SettingSources>): string {
  try {
    load(sources);
  } catch (error) {
    if (!(error instanceof StartupError)) throw error;
    expect(error.exitCode).toBe(2);
    expect(error.message).not.toMatch(/[\r\n\u2028\u2029]/);
    return error.message;
  }
  throw new Error('no error');
}

describe('loading settings', () => {
  it('gives the defaults if nothing is set', () => {
    const { settings, origins } = load({});
    expect(settings).toEqual({
      host: '127.0.0.1',
      port: 8080,
      dataDir: '.goforward',
      shutdownTimeout: 10_000,
      allowedOrigins: [],
      trustedProxies: [],
      connectionTimeout: 60_000,
      pingInterval: 30_000,
      maxConnections: 10_000,
      maxConnectionsPerUser: 200,
      maxConnectionsPerIp: 1000,
      httpRate: { perSecond: 200, burst: 400 },
      connectionRate: { perSecond: 50, burst: 200 },
      messageRate: { perSecond: 200, burst: 400 },
      maxMessageSize: 65_536,
      maxChangeSize: 33_554_432,
      maxOutbox: 1_048_576,
      maxChannels: 1000,
      maxUsersPerChannel: 100,
      channelTtl: 86_400_000,
      cleanupInterval: 300_000,
      autoCreateChannels: true,
      enablePresence: true,
      enableBroadcast: true,
      jwtSecret: undefined,
      jwtPublicKey: undefined,
      jwksUrl: undefined,
      jwtAlgorithms: undefined,
      jwtIssuer: undefined,
      jwtAudience: undefined,
      jwtClockTolerance: 5_000,
      adminRoles: ['admin'],
      databaseUrl: undefined,
      maxReconnectDelay: 30_000,
      enableDbStreaming: true,
      replicationSlot: 'realtime_slot',
      publicationName: 'realtime_publication',
      heartbeatInterval: 30_000,
      resumeWindow: 120_000,
      resumeWindowBytes: 268_435_456,
      walLimitAction: 'keep',
      changeSource: 'auto',
      enableRls: true,
      filterTables: [],
      excludeTables: [],
      dbRoles: [],
      claimSettings: [],
      enableMetrics: true,
      metricsPort: undefined,
      logLevel: 'info',
      logFormat: 'auto',
      enableConsole: true,
    });
    expect(Object.keys(settings)).toHaveLength(SETTING_ROWS.length);
    expect(new Set(Object.values(origins))).toEqual(new Set(['default']));
  });

  it('takes the flag before the environment, the environment before .env, and .env before the default', () => {
    const { settings, origins } = load({
      flags: { 'max-channels': '1' },
      env: { REALTIME_MAX_CHANNELS: '2', REALTIME_PORT: '2' },
      envFile: { REALTIME_MAX_CHANNELS: '3', REALTIME_PORT: '3', REALTIME_CHANNEL_TTL: '3s' },
    });
    expect(settings).toMatchObject({ maxChannels: 1, port: 2, channelTtl: 3000 });
    expect(origins).toMatchObject({
      maxChannels: 'flag',
      port: 'environment',
      channelTtl: '.env',
      host: 'default',
    });
  });

  it('treats an empty variable as not set, but not an empty flag', () => {
    const { settings, origins } = load({
      flags: { 'admin-roles': '' },
      env: { REALTIME_PORT: '', REALTIME_JWT_SECRET: '', DATABASE_URL: '' },
      envFile: { REALTIME_PORT: '9000', REALTIME_HOST: '' },
    });
    expect(settings).toMatchObject({ port: 9000, host: '127.0.0.1', jwtSecret: undefined, adminRoles: [] });
    expect(origins).toMatchObject({ port: '.env', host: 'default', adminRoles: 'flag' });
    expect(errorOf({ flags: { port: '' } })).toContain('--port');
  });

  it('does not validate a value that another source overrides', () => {
    expect(load({ flags: { port: '1' }, env: { REALTIME_PORT: 'x' } }).settings.port).toBe(1);
  });

  it('accepts the whole block of variables in the documentation', () => {
    const env = {
      REALTIME_MAX_CHANNELS: '1000',
      REALTIME_ENABLE_DB_STREAMING: 'true',
      REALTIME_REPLICATION_SLOT: 'realtime_slot',
      REALTIME_ENABLE_RLS: 'true',
      REALTIME_RESUME_WINDOW: '2m',
      REALTIME_CHANGE_SOURCE: 'auto',
      REALTIME_PING_INTERVAL: '30s',
    };
    expect(load({ env, envFile: env }).settings).toMatchObject({
      changeSource: 'auto',
      resumeWindow: 120_000,
    });
  });
});

describe('an unknown name', () => {
  it.each([
    [
      { env: { REALTIME_MAX_CHANELS: '5' } },
      'Unknown setting REALTIME_MAX_CHANELS. Did you mean REALTIME_MAX_CHANNELS?',
    ],
    [
      { envFile: { REALTIME_PROT: '5' } },
      'Unknown setting REALTIME_PROT in .env. Did you mean REALTIME_PORT?',
    ],
    [
      { env: { REALTIME_DATABASE_URL: 'x' } },
      'Unknown setting REALTIME_DATABASE_URL. Did you mean DATABASE_URL?',
    ],
    [
      { env: { REALTIME_MAX_USERS: '5' } },
      'Unknown setting REALTIME_MAX_USERS. Did you mean REALTIME_MAX_USERS_PER_CHANNEL?',
    ],
    [
      { env: { REALTIME_REPLICATION_SLOTS: 's' } },
      'Unknown setting REALTIME_REPLICATION_SLOTS. Did you mean REALTIME_REPLICATION_SLOT?',
    ],
    [{ flags: { 'max-chanels': '5' } }, 'Unknown flag --max-chanels. Did you mean --max-channels?'],
    [
      { env: { REALTIME_ZZZZZZ: 'x' } },
      expect.stringMatching(/^Unknown setting REALTIME_ZZZZZZ\. The nearest setting is \w+\.$/),
    ],
  ])('is refused with the nearest one: %j', (sources, message) => {
    expect(errorOf(sources)).toEqual(message);
  });

  it('is ignored without our prefix, or if it is empty', () => {
    load({ env: { HOME: '/home/app', PORT: '1', realtime_port: 'x', REALTIME: 'x', REALTIME_NOTHING: '' } });
    load({ envFile: { OTHER: 'x' }, flags: { nothing: undefined } });
  });

  it('that Kubernetes sets for a Service is rejected with the fix', () => {
    for (const env of [
      { REALTIME_SERVICE_HOST: '10.0.0.1' },
      { REALTIME_PORT_8080_TCP_ADDR: '10.0.0.1' },
      { REALTIME_DB_PORT: 'tcp://10.0.0.1:5432' },
      { REALTIME_PORT: 'tcp://10.0.0.1:8080' },
    ]) {
      expect(errorOf({ env })).toContain('enableServiceLinks: false');
    }
  });
});

describe('an invalid value', () => {
  it.each([
    [
      { env: { REALTIME_PORT: '70000' } },
      'REALTIME_PORT must be a whole number from 0 to 65535, not "70000".',
    ],
    [
      { envFile: { REALTIME_MAX_CHANNELS: '0' } },
      'REALTIME_MAX_CHANNELS in .env must be a whole number of at least 1, not "0".',
    ],
    [
      { flags: { 'ping-interval': '30' } },
      '--ping-interval (REALTIME_PING_INTERVAL) must be a duration such as 30s, above zero and up to 24d, not "30".',
    ],
    [
      { env: { REALTIME_LOG_LEVEL: 'loud' } },
      'REALTIME_LOG_LEVEL must be one of fatal, error, warn, info, debug, trace, silent, not "loud".',
    ],
    [{ env: { REALTIME_JWT_SECRET: 'short' } }, 'REALTIME_JWT_SECRET must be a secret of at least 16 bytes.'],
    [
      { env: { REALTIME_HOST: 'a\nb' } },
      'REALTIME_HOST must be a host name or an IP address without a port, not "a\\nb".',
    ],
  ])('is rejected with a description of valid values: %j', (sources, message) => {
    expect(errorOf(sources)).toBe(message);
  });

  it('is rejected in one line of limited length that names the variable', () => {
    const odd = fc.oneof(
      fc.string({ minLength: 1 }),
      fc.string({ minLength: 1, unit: 'binary', maxLength: 5000 }),
    );
    fc.assert(
      fc.property(fc.constantFrom(...SETTING_ROWS), odd, (row, text) => {
        if (row.type.parse(text).ok) return;
        const message = errorOf({ env: { [row.env]: text } });
        expect(message).toContain(row.env);
        expect(message.length).toBeLessThan(1000);
      }),
      { numRuns: 1000 },
    );
  });

  it('of a secret is never repeated in the message', () => {
    const given = 'mysql://u:hunter2-hunter2@db';
    for (const env of ['DATABASE_URL', 'REALTIME_JWT_PUBLIC_KEY']) {
      expect(errorOf({ env: { [env]: given } })).not.toContain('hunter2');
    }
  });
});

describe('settings that contradict each other', () => {
  it.each([
    [
      { REALTIME_JWT_SECRET: SECRET, REALTIME_JWKS_URL: 'https://id.example/jwks' },
      'REALTIME_JWT_SECRET and REALTIME_JWKS_URL are both set. Set only the one that verifies tokens.',
    ],
    [
      { REALTIME_CONNECTION_TIMEOUT: '20s' },
      'REALTIME_CONNECTION_TIMEOUT (20s) must be longer than REALTIME_PING_INTERVAL (30s). Otherwise idle connections are closed before they can answer a ping.',
    ],
    [
      { REALTIME_PING_INTERVAL: '1m' },
      'REALTIME_CONNECTION_TIMEOUT (1m) must be longer than REALTIME_PING_INTERVAL (1m). Otherwise idle connections are closed before they can answer a ping.',
    ],
    [
      { REALTIME_METRICS_PORT: '8080' },
      'REALTIME_METRICS_PORT and REALTIME_PORT are both 8080. Set them to different ports.',
    ],
  ])('are refused: %j', (env, message) => {
    expect(errorOf({ env })).toBe(message);
  });

  it('are two claims for one PostgreSQL setting, also in different case', () => {
    expect(errorOf({ env: { REALTIME_CLAIM_SETTINGS: 'app.tenant=a, App.Tenant=b' } })).toBe(
      'REALTIME_CLAIM_SETTINGS sets app.tenant twice. Set it from one claim.',
    );
  });

  it('are not two ports of 0: each is any free port', () => {
    load({ env: { REALTIME_PORT: '0', REALTIME_METRICS_PORT: '0' } });
  });
});

describe('a secret in a file', () => {
  const SECRETS = SETTING_ROWS.filter(({ type }) => type.secret);
  const PEM = generateKeyPairSync('ed25519').publicKey.export({ type: 'spki', format: 'pem' }).toString();
  const VALUES: Readonly<Record<string, string>> = {
    REALTIME_JWT_SECRET: SECRET,
    REALTIME_JWT_PUBLIC_KEY: PEM.trim(),
    DATABASE_URL: 'postgres://me:hidden@db.example/app',
  };
  let folder = '';
  beforeEach(() => {
    folder = mkdtempSync(join(tmpdir(), 'goforward-secrets-'));
  });
  afterEach(() => {
    rmSync(folder, { recursive: true });
  });

  function fileWith(content: string | Uint8Array): string {
    const path = join(folder, 'secret');
    writeFileSync(path, content);
    return path;
  }

  it('is possible for every secret of the table', () => {
    expect(SECRETS.map(({ env }) => env).sort()).toEqual(Object.keys(VALUES).sort());
    expect(SETTING_ROWS.filter(({ file }) => file !== undefined)).toEqual(SECRETS);
  });

  it.each(SECRETS)('$env is read from the file that $file.env names, without its last line break', (row) => {
    const value = VALUES[row.env] ?? '';
    const name = row.file?.env ?? '';
    for (const end of ['', '\n', '\r\n']) {
      const path = fileWith(value + end);
      const { settings, origins } = load({ env: { [name]: path } });
      expect(settings[row.key]).toBe(value);
      expect(origins[row.key]).toBe(`environment, file ${path}`);
    }
    const path = fileWith(value);
    const flags = { [row.file?.flag ?? '']: path };
    expect(load({ flags }).origins[row.key]).toBe(`flag, file ${path}`);
    expect(load({ envFile: { [name]: path } }).origins[row.key]).toBe(`.env, file ${path}`);
  });

  it('keeps everything except the last line break', () => {
    const { settings } = load({ env: { REALTIME_JWT_SECRET_FILE: fileWith(` ${SECRET}\n\n`) } });
    expect(settings.jwtSecret).toBe(` ${SECRET}\n`);
  });

  it('is rejected with both names if the secret is also set itself, in any source', () => {
    const path = fileWith(SECRET);
    expect(errorOf({ env: { REALTIME_JWT_SECRET: SECRET, REALTIME_JWT_SECRET_FILE: path } })).toBe(
      'REALTIME_JWT_SECRET and REALTIME_JWT_SECRET_FILE are both set. Set only one of them.',
    );
    expect(
      errorOf({ flags: { 'database-url-file': path }, envFile: { DATABASE_URL: 'postgres://x@y/z' } }),
    ).toBe(
      'DATABASE_URL in .env and --database-url-file (DATABASE_URL_FILE) are both set. Set only one of them.',
    );
  });

  it('that cannot be used is reported in one line with the variable and the path, never the content', () => {
    const name = 'REALTIME_JWT_SECRET_FILE';
    const missing = join(folder, 'missing');
    expect(errorOf({ env: { [name]: missing } })).toBe(
      `${name}: "${missing}" cannot be read: there is no such file.`,
    );
    expect(errorOf({ envFile: { [name]: folder } })).toBe(
      `${name} in .env: "${folder}" cannot be read: it is a folder.`,
    );
    for (const content of ['', '\n']) {
      const path = fileWith(content);
      expect(errorOf({ env: { [name]: path } })).toBe(`${name}: "${path}" is empty.`);
    }
    const path = fileWith('hunter2\n');
    expect(errorOf({ env: { [name]: path } })).toBe(
      `${name}: "${path}" must contain a secret of at least 16 bytes.`,
    );
    fileWith(Buffer.from([0xff, 0xfe, 0x80]));
    expect(errorOf({ env: { [name]: path } })).toBe(
      `${name}: "${path}" is not text in UTF-8. Write the secret in base64 or hex.`,
    );
  });

  it('is possible only for secrets', () => {
    expect(errorOf({ env: { REALTIME_PORT_FILE: '/x' } })).toContain('Unknown setting REALTIME_PORT_FILE');
    expect(errorOf({ env: { REALTIME_JWT_SECRET_FIEL: '/x' } })).toContain('REALTIME_JWT_SECRET_FILE?');
  });
});

describe('the .env file', () => {
  let folder = '';
  beforeEach(() => {
    folder = mkdtempSync(join(tmpdir(), 'goforward-settings-'));
  });
  afterEach(() => {
    rmSync(folder, { recursive: true });
  });

  it('may be absent', () => {
    expect(readEnvFile(folder)).toEqual({});
  });

  it('is read with comments, quotes, Windows line ends and a byte order mark', () => {
    const text =
      '\uFEFFREALTIME_PORT=9000\r\n# no\r\nREALTIME_MESSAGE_RATE="5/s, burst 6" # yes\r\nREALTIME_HOST=\r\n';
    writeFileSync(join(folder, '.env'), text);
    const envFile = readEnvFile(folder);
    expect(load({ envFile }).settings).toMatchObject({
      port: 9000,
      messageRate: { perSecond: 5, burst: 6 },
      host: '127.0.0.1',
    });
  });

  it('that cannot be read causes a startup error of one line', () => {
    mkdirSync(join(folder, '.env'));
    expect(() => readEnvFile(folder)).toThrow(StartupError);
    expect(() => readEnvFile(folder)).toThrow(/^The settings file .+\.env cannot be read: it is a folder\.$/);
  });
});

describe('the .env file', () => {
  let folder = '';
  beforeEach(() => {
    folder = mkdtempSync(join(tmpdir(), 'goforward-env-'));
  });
  afterEach(() => {
    rmSync(folder, { recursive: true });
  });

  it.each([
    ['REALTIME_JWT_SECRET: a-secret-of-thirty-two-characters', 1],
    ['# a comment\n\nREALTIME_MAX_CHANNELS 5', 3],
    ['REALTIME_PORT="1\n2" # two lines\nrubbish', 3],
    ["X='1\n2\n3'\n=5", 4],
    ["A=1\nB='7", 2],
  ])('refuses a .env file with a line that sets nothing, and does not quote it: %j', (text, line) => {
    writeFileSync(join(folder, '.env'), text);
    const message = `Line ${line} of the settings file .env is not NAME=value.`;
    expect(() => readEnvFile(folder)).toThrow(expect.objectContaining({ message, exitCode: 2 }));
  });

  it('reads comments, empty lines, export, and values of several lines from a .env file', () => {
    const text = '# one\r\n\r\nexport A=1\r\n  B = 2 # two\n  C="3\nnot a line\n4"\nD=`5\n6`\nE=';
    writeFileSync(join(folder, '.env'), text);
    expect(Object.keys(readEnvFile(folder))).toEqual(['A', 'B', 'C', 'D', 'E']);
  });
});
