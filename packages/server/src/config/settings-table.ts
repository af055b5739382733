import { LOG_FORMATS, LOG_LEVELS } from '../lib/log.js';
import { host, ipRanges, origins, webUrl } from './address-types.js';
import { boolean, choice, duration, integer, names, rate, size, slotName, text } from './basic-types.js';
import { claimSettings } from './claim-setting-type.js';
import { algorithms, postgresUrl, publicKey, sharedSecret } from './credential-types.js';
import { flagOf, type Setting, type SettingValue } from './setting.js';

const KB = 1024;
const MB = 1024 * KB;

/** Node's timers fire immediately if the delay exceeds 2^31 - 1 ms, which is 24.8 days. */
const MAX_TIMER_MS = 24 * 86_400_000;

const PORT = { min: 0, max: 65_535 };

/**
 * Every setting of the server. Types, parsing, defaults, redaction, `--help` and the reference page are
 * derived from these rows. The documentation lists them in this order.
 */
export const SETTINGS = {
  host: {
    group: 'Server',
    env: 'REALTIME_HOST',
    type: host(),
    default: '127.0.0.1',
    doc: 'Address to listen on. 0.0.0.0 or :: makes the server reachable from other machines.',
  },
  port: {
    group: 'Server',
    env: 'REALTIME_PORT',
    type: integer(PORT),
    default: '8080',
    doc: 'Port to listen on. 0 selects a free port, which is printed at start.',
  },
  dataDir: {
    group: 'Server',
    env: 'REALTIME_DATA_DIR',
    type: text('the path of a folder', 'path'),
    default: '.goforward',
    doc: 'Folder of the embedded PostgreSQL, the generated secret, files of the resume window and temporary files of snapshots. A relative path starts at the working directory.',
  },
  shutdownTimeout: {
    group: 'Server',
    env: 'REALTIME_SHUTDOWN_TIMEOUT',
    type: duration(MAX_TIMER_MS),
    default: '10s',
    doc: 'How long a stopping server waits for its connections to close before it destroys them.',
  },
  enableConsole: {
    group: 'Server',
    env: 'REALTIME_ENABLE_CONSOLE',
    type: boolean(),
    default: 'true',
    doc: 'Whether the server serves a page at / and /test_websocket.html, and its API at /docs and /openapi.json. If off, they are answered with NOT_FOUND.',
  },
  allowedOrigins: {
    group: 'Connections',
    env: 'REALTIME_ALLOWED_ORIGINS',
    type: origins(),
    default: '',
    doc: "Origins whose pages may connect. The server's own host, and loopback from loopback, are always allowed; * allows all.",
  },
  trustedProxies: {
    group: 'Connections',
    env: 'REALTIME_TRUSTED_PROXIES',
    type: ipRanges(),
    default: '',
    doc: 'Proxies whose X-Forwarded-For is trusted. Limits per address then count the client instead of the proxy.',
  },
  connectionTimeout: {
    group: 'Connections',
    env: 'REALTIME_CONNECTION_TIMEOUT',
    type: duration(MAX_TIMER_MS),
    default: '60s',
    doc: 'How long a connection may send neither a message nor a pong before it is closed as stale. Must be longer than the ping interval.',
  },
  pingInterval: {
    group: 'Connections',
    env: 'REALTIME_PING_INTERVAL',
    type: duration(MAX_TIMER_MS),
    default: '30s',
    doc: 'Interval between pings to each connection.',
  },
  maxConnections: {
    group: 'Limits',
    env: 'REALTIME_MAX_CONNECTIONS',
    type: integer({ min: 1 }),
    default: '10000',
    doc: 'Maximum number of connections at the same time. There may be a fifth more sockets (at least 64 more), for HTTP; further ones are closed at once.',
  },
  maxConnectionsPerUser: {
    group: 'Limits',
    env: 'REALTIME_MAX_CONNECTIONS_PER_USER',
    type: integer({ min: 1 }),
    default: '200',
    doc: 'Maximum number of connections per user at the same time.',
  },
  maxConnectionsPerIp: {
    group: 'Limits',
    env: 'REALTIME_MAX_CONNECTIONS_PER_IP',
    type: integer({ min: 1 }),
    default: '1000',
    doc: 'Maximum number of connections per address (for IPv6: per /64 network) at the same time. An address may have a fifth more sockets (at least 64 more), for HTTP; further ones are closed at once. Sockets of trusted proxies count only for the whole server.',
  },
  connectionRate: {
    group: 'Limits',
    env: 'REALTIME_CONNECTION_RATE',
    type: rate(),
    default: '50/s, burst 200',
    doc: 'Maximum rate of handshakes per address (for IPv6: per /64 network).',
  },
  httpRate: {
    group: 'Limits',
    env: 'REALTIME_HTTP_RATE',
    type: rate(),
    default: '200/s, burst 400',
    doc: 'Maximum rate of HTTP requests per address (for IPv6: per /64 network). /healthz, /readyz and /metrics together have a rate of their own, as large.',
  },
  messageRate: {
    group: 'Limits',
    env: 'REALTIME_MESSAGE_RATE',
    type: rate(),
    default: '200/s, burst 400',
    doc: 'Maximum rate of messages per user.',
  },
  maxMessageSize: {
    group: 'Limits',
    env: 'REALTIME_MAX_MESSAGE_SIZE',
    type: size({ min: 256, max: 100 * MB }),
    default: '64KB',
    doc: 'Maximum size of a message from a client. A larger one closes its connection.',
  },
  maxChangeSize: {
    group: 'Limits',
    env: 'REALTIME_MAX_CHANGE_SIZE',
    type: size({ min: KB, max: 64 * MB }),
    default: '32MB',
    doc: 'Maximum size of the message of a row change. A larger one is not sent: those who would get it get a `gap` with its cursor.',
  },
  maxOutbox: {
    group: 'Limits',
    env: 'REALTIME_MAX_OUTBOX',
    type: size({ min: 64 * KB, max: 1024 * MB }),
    default: '1MB',
    doc: 'Maximum number of bytes waiting to be sent to one connection. Beyond it, the connection is closed as a slow consumer.',
  },
  maxChannels: {
    group: 'Channels',
    env: 'REALTIME_MAX_CHANNELS',
    type: integer({ min: 1 }),
    default: '1000',
    doc: 'Maximum number of channels. At the limit, a new channel replaces the automatic channel that has been empty longest; without one, it is rejected.',
  },
  maxUsersPerChannel: {
    group: 'Channels',
    env: 'REALTIME_MAX_USERS_PER_CHANNEL',
    type: integer({ min: 1 }),
    default: '100',
    doc: 'Default max_subscribers of a channel.',
  },
  channelTtl: {
    group: 'Channels',
    env: 'REALTIME_CHANNEL_TTL',
    type: duration(),
    default: '24h',
    doc: 'How long an automatic channel without members and messages is kept. Channels created by HTTP never expire.',
  },
  cleanupInterval: {
    group: 'Channels',
    env: 'REALTIME_CLEANUP_INTERVAL',
    type: duration(MAX_TIMER_MS),
    default: '5m',
    doc: 'Interval between removals of expired channels.',
  },
  autoCreateChannels: {
    group: 'Channels',
    env: 'REALTIME_AUTO_CREATE_CHANNELS',
    type: boolean(),
    default: 'true',
    doc: 'Whether joining a channel that does not exist creates it. A deleted channel stays deleted in either case.',
  },
  enablePresence: {
    group: 'Channels',
    env: 'REALTIME_ENABLE_PRESENCE',
    type: boolean(),
    default: 'true',
    doc: 'Whether presence is tracked. If off, presence lists are empty, and updates are answered with FEATURE_DISABLED.',
  },
  enableBroadcast: {
    group: 'Channels',
    env: 'REALTIME_ENABLE_BROADCAST',
    type: boolean(),
    default: 'true',
    doc: 'Whether clients may publish messages. If off, publishing by WebSocket and HTTP is answered with FEATURE_DISABLED.',
  },
  jwtSecret: {
    group: 'Authentication',
    env: 'REALTIME_JWT_SECRET',
    type: sharedSecret(16),
    doc: 'Secret that signs tokens (HS256, HS384, HS512); use at least 32 random bytes. Without any key, the server generates a secret and stores it in the data folder. In production (NODE_ENV) it does not: without a key or an earlier generated secret, it does not start. Prefer the variable to the flag, which every user of the machine can read.',
  },
  jwtPublicKey: {
    group: 'Authentication',
    env: 'REALTIME_JWT_PUBLIC_KEY',
    type: publicKey(),
    doc: 'Public key that verifies tokens, in PEM. A line break can be written as \\n.',
  },
  jwksUrl: {
    group: 'Authentication',
    env: 'REALTIME_JWKS_URL',
    type: webUrl(),
    doc: 'URL of the key set (JWKS) that verifies tokens. Set only one of secret, public key and key set. It is fetched every five minutes, and for a token with an unknown key, at most once in ten seconds. A key removed from the set is refused after ten minutes; while the host does not answer, the last set is used for up to an hour. At most 1 MB and 1000 keys; redirects are not followed.',
  },
  jwtAlgorithms: {
    group: 'Authentication',
    env: 'REALTIME_JWT_ALGORITHMS',
    type: algorithms(),
    doc: 'Signature algorithms that tokens may use. Default: all that suit the key.',
  },
  jwtIssuer: {
    group: 'Authentication',
    env: 'REALTIME_JWT_ISSUER',
    type: text('the name of an issuer', 'text'),
    doc: 'Required iss of tokens. Default: any.',
  },
  jwtAudience: {
    group: 'Authentication',
    env: 'REALTIME_JWT_AUDIENCE',
    type: text('the name of an audience', 'text'),
    doc: 'Required aud of tokens. Default: any.',
  },
  jwtClockTolerance: {
    group: 'Authentication',
    env: 'REALTIME_JWT_CLOCK_TOLERANCE',
    type: duration(10 * 60_000, { allowZero: true }),
    default: '5s',
    doc: "How far the clock of a token's issuer may be off, for exp, nbf and iat. A connection also ends this long after exp; token_expires_at stays exp.",
  },
  adminRoles: {
    group: 'Authentication',
    env: 'REALTIME_ADMIN_ROLES',
    type: names('names of roles'),
    default: 'admin',
    doc: "Roles in tokens that make a user a server admin. Server admins can create channels, and pass every channel's permissions.",
  },
  databaseUrl: {
    group: 'Database',
    env: 'DATABASE_URL',
    type: postgresUrl(),
    doc: 'PostgreSQL to use, as a postgres:// URL. Without it, the server runs an embedded PostgreSQL in the data folder.',
  },
  maxReconnectDelay: {
    group: 'Database',
    env: 'REALTIME_MAX_RECONNECT_DELAY',
    type: duration(MAX_TIMER_MS),
    default: '30s',
    doc: 'Maximum delay between attempts to reconnect to PostgreSQL. Delays grow from 100ms.',
  },
  enableDbStreaming: {
    group: 'Row changes',
    env: 'REALTIME_ENABLE_DB_STREAMING',
    type: boolean(),
    default: 'true',
    doc: 'Whether row changes are streamed. If off, there is no replication connection, and requests about tables and subscriptions are answered with FEATURE_DISABLED.',
  },
  replicationSlot: {
    group: 'Row changes',
    env: 'REALTIME_REPLICATION_SLOT',
    type: slotName(),
    default: 'realtime_slot',
    doc: 'Replication slot that row changes are read from. It is created if it does not exist. One server reads a slot at a time; others wait.',
  },
  publicationName: {
    group: 'Row changes',
    env: 'REALTIME_PUBLICATION_NAME',
    type: text('the name of a publication', 'name'),
    default: 'realtime_publication',
    doc: 'Publication of the enabled tables. It is created if it does not exist.',
  },
  heartbeatInterval: {
    group: 'Row changes',
    env: 'REALTIME_HEARTBEAT_INTERVAL',
    type: duration(MAX_TIMER_MS),
    default: '30s',
    doc: 'Interval between messages that the server writes to the WAL while there is other traffic. They move an idle slot forward and measure the lag.',
  },
  resumeWindow: {
    group: 'Row changes',
    env: 'REALTIME_RESUME_WINDOW',
    type: duration(MAX_TIMER_MS),
    default: '2m',
    doc: 'How long a client may be away and still receive the row changes that it missed. PostgreSQL retains its WAL this long.',
  },
  resumeWindowBytes: {
    group: 'Row changes',
    env: 'REALTIME_RESUME_WINDOW_BYTES',
    type: size({ min: 0, max: 1024 * 1024 * MB }),
    default: '256MB',
    doc: 'Maximum number of bytes of WAL that PostgreSQL retains for the resume window. Never more than a quarter of max_slot_wal_keep_size.',
  },
  changeSource: {
    group: 'Row changes',
    env: 'REALTIME_CHANGE_SOURCE',
    type: choice(['auto', 'logical', 'trigger'], 'source'),
    default: 'auto',
    doc: 'How row changes are read: by logical decoding, by triggers that write to an outbox table, or auto. With auto, triggers are used where logical decoding is unavailable (wal_level is not logical, or the login lacks REPLICATION). The log reports the choice and its reason.',
  },
  walLimitAction: {
    group: 'Row changes',
    env: 'REALTIME_WAL_LIMIT_ACTION',
    type: choice(['keep', 'drop'], 'action'),
    default: 'keep',
    doc: 'What happens when the replication slot retains nearly as much WAL as allowed (max_slot_wal_keep_size, or 4 GB). keep: the server logs a warning and keeps the slot. drop: it drops the slot, loses unread changes, and sends clients a gap.',
  },
  enableRls: {
    group: 'Row changes',
    env: 'REALTIME_ENABLE_RLS',
    type: boolean(),
    default: 'true',
    doc: 'Whether row level security decides who receives a row change. If off, policies are not applied; privileges on tables and columns still are.',
  },
  filterTables: {
    group: 'Row changes',
    env: 'REALTIME_FILTER_TABLES',
    type: names('tables, as table or schema.table'),
    default: '',
    doc: 'The only tables that can be enabled. Empty: any.',
  },
  excludeTables: {
    group: 'Row changes',
    env: 'REALTIME_EXCLUDE_TABLES',
    type: names('tables, as table or schema.table'),
    default: '',
    doc: 'Tables that cannot be enabled, even if REALTIME_FILTER_TABLES lists them.',
  },
  dbRoles: {
    group: 'Row changes',
    env: 'REALTIME_DB_ROLES',
    type: names('names of database roles'),
    default: '',
    doc: "Database roles that a token's role can select for row level security, instead of realtime_subscriber.",
  },
  claimSettings: {
    group: 'Row changes',
    env: 'REALTIME_CLAIM_SETTINGS',
    type: claimSettings(),
    default: '',
    doc: "Settings that policies read with current_setting, from token claims: app.current_tenant=tenant_id sets app.current_tenant to the claim tenant_id. A dot selects a field of a claim, as in app_metadata.tenant_id, unless the token has a claim with the whole name. Numbers and booleans are set as text, objects and arrays as JSON. A claim that is missing or cannot be stored as text is set as ''.",
  },
  enableMetrics: {
    group: 'Monitoring',
    env: 'REALTIME_ENABLE_METRICS',
    type: boolean(),
    default: 'true',
    doc: 'Whether metrics are collected. If off, /metrics answers FEATURE_DISABLED.',
  },
  metricsPort: {
    group: 'Monitoring',
    env: 'REALTIME_METRICS_PORT',
    type: integer(PORT),
    doc: 'Separate port that serves /metrics without a token. Default: none.',
  },
  logLevel: {
    group: 'Monitoring',
    env: 'REALTIME_LOG_LEVEL',
    type: choice(LOG_LEVELS, 'level'),
    default: 'info',
    doc: 'Minimum level of log lines, which are written to standard error.',
  },
  logFormat: {
    group: 'Monitoring',
    env: 'REALTIME_LOG_FORMAT',
    type: choice(LOG_FORMATS, 'format'),
    default: 'auto',
    doc: 'Format of the log: pretty for people, json with one record per line, or auto, which is pretty on a terminal and JSON otherwise. With JSON, start prints no banner: the addresses are a log line at info.',
  },
} satisfies Readonly<Record<string, Setting<unknown>>>;

export type SettingKey = keyof typeof SETTINGS;

/** The effective settings: durations in ms, sizes in bytes. */
export type Settings = { readonly [Key in SettingKey]: SettingValue<(typeof SETTINGS)[Key]> };

/** A row of the table, with its key and flag. */
export interface SettingRow extends Setting<unknown> {
  readonly key: SettingKey;
  readonly flag: string;
  /** The variable and the flag for the path of a file with the value. Only secrets have them. */
  readonly file?: { readonly env: string; readonly flag: string };
}

/** The rows in the order of the table. */
export const SETTING_ROWS: readonly SettingRow[] = (Object.keys(SETTINGS) as SettingKey[]).map((key) => {
  const { env, type } = SETTINGS[key];
  const file = { env: `${env}_FILE`, flag: flagOf(`${env}_FILE`) };
  return { ...SETTINGS[key], key, flag: flagOf(env), ...(type.secret === true ? { file } : {}) };
});
