import { LOG_FORMATS, LOG_LEVELS } from '../lib/log.js';
import { host, ipRanges, origins, webUrl } from './address-types.js';
import { boolean, choice, duration, integer, names, rate, size, slotName, text } from './basic-types.js';
import { claimSettings } from './claim-setting-type.js';
import { algorithms, postgresUrl, publicKey, sharedSecret } from './credential-types.js';
import { flagOf, type Setting, type SettingValue } from './setting.js';

const KB = 1024;
const MB = 1024 * KB;

/** Node's timers take at most 2^31 - 1 ms, 24.8 days, and fire at once beyond that. */
const MAX_TIMER_MS = 24 * 86_400_000;

const PORT = { min: 0, max: 65_535 };

/**
 * Every setting of the server. Types, parsing, defaults, redaction, `--help` and the reference page all come
 * from these rows; documentation lists them in this order.
 */
export const SETTINGS = {
  host: {
    group: 'Server',
    env: 'REALTIME_HOST',
    type: host(),
    default: '127.0.0.1',
    doc: 'The address that the server listens on. 0.0.0.0 or :: makes it reachable from other machines.',
  },
  port: {
    group: 'Server',
    env: 'REALTIME_PORT',
    type: integer(PORT),
    default: '8080',
    doc: 'The port that the server listens on. 0 takes any free one, which is printed at start.',
  },
  dataDir: {
    group: 'Server',
    env: 'REALTIME_DATA_DIR',
    type: text('the path of a folder', 'path'),
    default: '.goforward',
    doc: 'The folder of the embedded PostgreSQL and the generated secret. A relative path starts at the working directory.',
  },
  shutdownTimeout: {
    group: 'Server',
    env: 'REALTIME_SHUTDOWN_TIMEOUT',
    type: duration(MAX_TIMER_MS),
    default: '10s',
    doc: 'How long a stopping server waits for its connections to close before it ends them.',
  },
  enableConsole: {
    group: 'Server',
    env: 'REALTIME_ENABLE_CONSOLE',
    type: boolean(),
    default: 'true',
    doc: 'Whether the server has a page at / and /test_websocket.html, and its API at /docs and /openapi.json. Off, they are answered with NOT_FOUND.',
  },
  allowedOrigins: {
    group: 'Connections',
    env: 'REALTIME_ALLOWED_ORIGINS',
    type: origins(),
    default: '',
    doc: "Origins whose pages may connect besides the server's own host and, between loopback addresses, any. * lets in all.",
  },
  trustedProxies: {
    group: 'Connections',
    env: 'REALTIME_TRUSTED_PROXIES',
    type: ipRanges(),
    default: '',
    doc: 'Proxies whose X-Forwarded-For names the client. Limits per address then count the client and not the proxy.',
  },
  connectionTimeout: {
    group: 'Connections',
    env: 'REALTIME_CONNECTION_TIMEOUT',
    type: duration(MAX_TIMER_MS),
    default: '60s',
    doc: 'How long a connection may be silent, without a message or a pong, before it is closed as stale. Longer than the ping interval.',
  },
  pingInterval: {
    group: 'Connections',
    env: 'REALTIME_PING_INTERVAL',
    type: duration(MAX_TIMER_MS),
    default: '30s',
    doc: 'How often each connection is pinged.',
  },
  maxConnections: {
    group: 'Limits',
    env: 'REALTIME_MAX_CONNECTIONS',
    type: integer({ min: 1 }),
    default: '10000',
    doc: 'Connections that the server holds at once.',
  },
  maxConnectionsPerUser: {
    group: 'Limits',
    env: 'REALTIME_MAX_CONNECTIONS_PER_USER',
    type: integer({ min: 1 }),
    default: '200',
    doc: 'Connections that one user holds at once.',
  },
  maxConnectionsPerIp: {
    group: 'Limits',
    env: 'REALTIME_MAX_CONNECTIONS_PER_IP',
    type: integer({ min: 1 }),
    default: '1000',
    doc: 'Connections that one address (of IPv6: one /64 network) holds at once.',
  },
  connectionRate: {
    group: 'Limits',
    env: 'REALTIME_CONNECTION_RATE',
    type: rate(),
    default: '50/s, burst 200',
    doc: 'Handshakes that one address (of IPv6: one /64 network) may make.',
  },
  messageRate: {
    group: 'Limits',
    env: 'REALTIME_MESSAGE_RATE',
    type: rate(),
    default: '200/s, burst 400',
    doc: 'Messages that one user may send.',
  },
  maxMessageSize: {
    group: 'Limits',
    env: 'REALTIME_MAX_MESSAGE_SIZE',
    type: size({ min: 256, max: 100 * MB }),
    default: '64KB',
    doc: 'The largest message that a client may send. A larger one closes its connection.',
  },
  maxOutbox: {
    group: 'Limits',
    env: 'REALTIME_MAX_OUTBOX',
    type: size({ min: 64 * KB, max: 1024 * MB }),
    default: '1MB',
    doc: 'How much may wait to be sent to one connection. One that falls further behind is closed as a slow consumer.',
  },
  maxChannels: {
    group: 'Channels',
    env: 'REALTIME_MAX_CHANNELS',
    type: integer({ min: 1 }),
    default: '1000',
    doc: 'Channels that exist at once. At the limit the automatic channel that has been empty longest makes room; with none, a new channel is refused.',
  },
  maxUsersPerChannel: {
    group: 'Channels',
    env: 'REALTIME_MAX_USERS_PER_CHANNEL',
    type: integer({ min: 1 }),
    default: '100',
    doc: 'The max_subscribers of a channel that names none.',
  },
  channelTtl: {
    group: 'Channels',
    env: 'REALTIME_CHANNEL_TTL',
    type: duration(),
    default: '24h',
    doc: 'How long an automatic channel without members and messages is kept. Channels made by HTTP never expire.',
  },
  cleanupInterval: {
    group: 'Channels',
    env: 'REALTIME_CLEANUP_INTERVAL',
    type: duration(MAX_TIMER_MS),
    default: '5m',
    doc: 'How often expired channels are looked for.',
  },
  autoCreateChannels: {
    group: 'Channels',
    env: 'REALTIME_AUTO_CREATE_CHANNELS',
    type: boolean(),
    default: 'true',
    doc: 'Whether joining a channel that does not exist creates it. A channel that was deleted stays deleted either way.',
  },
  enablePresence: {
    group: 'Channels',
    env: 'REALTIME_ENABLE_PRESENCE',
    type: boolean(),
    default: 'true',
    doc: 'Whether presence is kept. Off, lists of presence are empty and updates are answered with FEATURE_DISABLED.',
  },
  enableBroadcast: {
    group: 'Channels',
    env: 'REALTIME_ENABLE_BROADCAST',
    type: boolean(),
    default: 'true',
    doc: 'Whether messages may be published. Off, publishing by socket and by HTTP is answered with FEATURE_DISABLED.',
  },
  jwtSecret: {
    group: 'Authentication',
    env: 'REALTIME_JWT_SECRET',
    type: sharedSecret(16),
    doc: 'The secret that tokens are signed with (HS256 and kin); use 32 random bytes or more. With no key set at all, one is generated and kept in the data folder; in production (NODE_ENV) a start without one is refused, unless an earlier start has generated it. Prefer the variable to the flag, which every user of the machine can read.',
  },
  jwtPublicKey: {
    group: 'Authentication',
    env: 'REALTIME_JWT_PUBLIC_KEY',
    type: publicKey(),
    doc: 'The public key that tokens are verified with, in PEM. A line break may be written as \\n.',
  },
  jwksUrl: {
    group: 'Authentication',
    env: 'REALTIME_JWKS_URL',
    type: webUrl(),
    doc: 'Where the key set (JWKS) that tokens are verified with is published. Set only one of secret, public key and key set.',
  },
  jwtAlgorithms: {
    group: 'Authentication',
    env: 'REALTIME_JWT_ALGORITHMS',
    type: algorithms(),
    doc: 'The algorithms that tokens may be signed with. Without it, those that fit the kind of key.',
  },
  jwtIssuer: {
    group: 'Authentication',
    env: 'REALTIME_JWT_ISSUER',
    type: text('the name of an issuer', 'text'),
    doc: 'The iss that every token must carry. Without it, any.',
  },
  jwtAudience: {
    group: 'Authentication',
    env: 'REALTIME_JWT_AUDIENCE',
    type: text('the name of an audience', 'text'),
    doc: 'The aud that every token must carry. Without it, any.',
  },
  jwtClockTolerance: {
    group: 'Authentication',
    env: 'REALTIME_JWT_CLOCK_TOLERANCE',
    type: duration(10 * 60_000, { allowZero: true }),
    default: '5s',
    doc: "How far the clock of a token's issuer may be off, for exp, nbf and iat. A live connection ends this long after exp, too; token_expires_at stays exp.",
  },
  adminRoles: {
    group: 'Authentication',
    env: 'REALTIME_ADMIN_ROLES',
    type: names('names of roles'),
    default: 'admin',
    doc: "Roles that make a token's user a server admin, who may create channels and passes every channel's lists.",
  },
  databaseUrl: {
    group: 'Database',
    env: 'DATABASE_URL',
    type: postgresUrl(),
    doc: 'The PostgreSQL to use, as a postgres:// URL. Without it the server runs its own, embedded, in the data folder.',
  },
  maxReconnectDelay: {
    group: 'Database',
    env: 'REALTIME_MAX_RECONNECT_DELAY',
    type: duration(MAX_TIMER_MS),
    default: '30s',
    doc: 'The longest pause between attempts to reach PostgreSQL again. Pauses grow from 100ms.',
  },
  enableDbStreaming: {
    group: 'Row changes',
    env: 'REALTIME_ENABLE_DB_STREAMING',
    type: boolean(),
    default: 'true',
    doc: 'Whether row changes are streamed. Off, there is no replication connection, and triggers and subscriptions are answered with FEATURE_DISABLED.',
  },
  replicationSlot: {
    group: 'Row changes',
    env: 'REALTIME_REPLICATION_SLOT',
    type: slotName(),
    default: 'realtime_slot',
    doc: 'The replication slot that the changes are read from. Made when it is not there. One server reads a slot at a time; another one waits.',
  },
  publicationName: {
    group: 'Row changes',
    env: 'REALTIME_PUBLICATION_NAME',
    type: text('the name of a publication', 'name'),
    default: 'realtime_publication',
    doc: 'The publication that tables are added to when they are opted in. Made when it is not there.',
  },
  heartbeatInterval: {
    group: 'Row changes',
    env: 'REALTIME_HEARTBEAT_INTERVAL',
    type: duration(MAX_TIMER_MS),
    default: '30s',
    doc: 'How often a message of our own is sent through the log while others write to it: it moves an idle slot on and measures the lag.',
  },
  resumeWindow: {
    group: 'Row changes',
    env: 'REALTIME_RESUME_WINDOW',
    type: duration(MAX_TIMER_MS),
    default: '2m',
    doc: 'For how long row changes can be read again by a client that was away. PostgreSQL keeps its log for so long.',
  },
  resumeWindowBytes: {
    group: 'Row changes',
    env: 'REALTIME_RESUME_WINDOW_BYTES',
    type: size({ min: 0, max: 1024 * 1024 * MB }),
    default: '256MB',
    doc: "How much of PostgreSQL's log is kept for that at most, where it grows faster. Never more than a quarter of max_slot_wal_keep_size.",
  },
  changeSource: {
    group: 'Row changes',
    env: 'REALTIME_CHANGE_SOURCE',
    type: choice(['auto', 'logical', 'trigger'], 'source'),
    default: 'auto',
    doc: 'How row changes are read: by logical decoding, by triggers that write to a table of ours, or, with auto, by triggers where logical decoding cannot be had (wal_level is not logical, or the login may not replicate). The log says what was chosen and why.',
  },
  walLimitAction: {
    group: 'Row changes',
    env: 'REALTIME_WAL_LIMIT_ACTION',
    type: choice(['keep', 'drop'], 'action'),
    default: 'keep',
    doc: "What happens when the slot keeps nearly as much of PostgreSQL's log as it may (max_slot_wal_keep_size, or 4 GB): keep it and say so in the log, or drop it, which loses what was not read and tells clients of the gap.",
  },
  enableRls: {
    group: 'Row changes',
    env: 'REALTIME_ENABLE_RLS',
    type: boolean(),
    default: 'true',
    doc: 'Whether row level security decides who gets a change. Off, row policies are not applied; rights to tables and columns still are.',
  },
  filterTables: {
    group: 'Row changes',
    env: 'REALTIME_FILTER_TABLES',
    type: names('tables, as table or schema.table'),
    default: '',
    doc: 'The only tables that can be opted in. Empty: any.',
  },
  excludeTables: {
    group: 'Row changes',
    env: 'REALTIME_EXCLUDE_TABLES',
    type: names('tables, as table or schema.table'),
    default: '',
    doc: 'Tables that can never be opted in, also where the list above has them.',
  },
  dbRoles: {
    group: 'Row changes',
    env: 'REALTIME_DB_ROLES',
    type: names('names of database roles'),
    default: '',
    doc: "Database roles that a token's role may choose to be judged as, instead of realtime_subscriber.",
  },
  claimSettings: {
    group: 'Row changes',
    env: 'REALTIME_CLAIM_SETTINGS',
    type: claimSettings(),
    default: '',
    doc: "Settings that policies read with current_setting, from claims of the token: app.current_tenant=tenant_id sets app.current_tenant to the claim tenant_id. A dot leads into a claim, as in app_metadata.tenant_id, unless the token has a claim of the whole name. Numbers and booleans are set as text, objects and arrays as JSON, and what is missing, or cannot be text in PostgreSQL, as ''.",
  },
  enableMetrics: {
    group: 'Monitoring',
    env: 'REALTIME_ENABLE_METRICS',
    type: boolean(),
    default: 'true',
    doc: 'Whether metrics are collected. Off, /metrics answers FEATURE_DISABLED.',
  },
  metricsPort: {
    group: 'Monitoring',
    env: 'REALTIME_METRICS_PORT',
    type: integer(PORT),
    doc: 'A port of its own on which /metrics answers without a token. Without it, there is none.',
  },
  logLevel: {
    group: 'Monitoring',
    env: 'REALTIME_LOG_LEVEL',
    type: choice(LOG_LEVELS, 'level'),
    default: 'info',
    doc: 'The least severe level that is logged, on standard error.',
  },
  logFormat: {
    group: 'Monitoring',
    env: 'REALTIME_LOG_FORMAT',
    type: choice(LOG_FORMATS, 'format'),
    default: 'auto',
    doc: 'The format of the log: pretty lines for people, or JSON, a record a line; auto is pretty on a terminal and JSON elsewhere. With JSON, what a start prints on standard output is a JSON record too.',
  },
} satisfies Readonly<Record<string, Setting<unknown>>>;

export type SettingKey = keyof typeof SETTINGS;

/** The effective settings: durations in ms, sizes in bytes. */
export type Settings = { readonly [Key in SettingKey]: SettingValue<(typeof SETTINGS)[Key]> };

/** A row of the table with the name that it has in code and its flag. */
export interface SettingRow extends Setting<unknown> {
  readonly key: SettingKey;
  readonly flag: string;
  /** The variable and the flag that name a file with the value; every secret has them. */
  readonly file?: { readonly env: string; readonly flag: string };
}

/** The rows in the order of the table, for whatever treats all alike. */
export const SETTING_ROWS: readonly SettingRow[] = (Object.keys(SETTINGS) as SettingKey[]).map((key) => {
  const { env, type } = SETTINGS[key];
  const file = { env: `${env}_FILE`, flag: flagOf(`${env}_FILE`) };
  return { ...SETTINGS[key], key, flag: flagOf(env), ...(type.secret === true ? { file } : {}) };
});
