import { randomUUID } from 'node:crypto';
import { isIP } from 'node:net';
import { describeDatabaseUrl } from '../config/credential-types.js';
import type { Settings } from '../config/settings-table.js';
import { programName } from '../lib/program-name.js';
import type { RealtimeServer } from '../server.js';
import { serverVersion } from '../version.js';

const TOKEN_MS = 24 * 3_600_000;

/** Returns what is printed at start: the addresses and, on an unconfigured server, two tokens. */
export async function startupBanner(server: RealtimeServer, settings: Settings): Promise<string> {
  const { page, api, metrics, websocket } = addresses(server, settings);
  const url = server.isUnconfigured ? server.databaseUrl : describeDatabaseUrl(server.databaseUrl);
  const rows: [string, string | undefined][] = [
    ['Page', page],
    ['WebSocket', websocket],
    ['API', api],
    ['Metrics', metrics],
    ['Database', databaseLine(url, server, settings)],
    ...(await tokenRows(server, settings)),
  ];
  const shown = rows.filter(([, value]) => value !== undefined);
  const width = Math.max(...shown.map(([name]) => name.length));
  const lines = shown.map(([name, value]) => `  ${name.padEnd(width)}  ${value}`);
  const next = nextStep(server, settings);
  return [`GoForward Realtime ${serverVersion()}`, '', ...lines, '', `  ${next}`, ''].join('\n');
}

/** Returns the same for a JSON log, without secrets: a log is kept and shipped. */
export function startupFields(server: RealtimeServer, settings: Settings): Record<string, unknown> {
  const url = describeDatabaseUrl(server.databaseUrl);
  return {
    version: serverVersion(),
    ...addresses(server, settings),
    database: databaseLine(url, server, settings),
  };
}

function addresses(server: RealtimeServer, { host, enableConsole }: Settings) {
  const name = hostForBrowser(host);
  const at = `${name}:${server.port}`;
  return {
    page: enableConsole ? `http://${at}/` : undefined,
    websocket: `ws://${at}/realtime/channels/<channel>/ws?token=<token>`,
    api: enableConsole ? `http://${at}/docs` : undefined,
    metrics: server.metricsPort === undefined ? undefined : `http://${name}:${server.metricsPort}/metrics`,
  };
}

async function tokenRows(server: RealtimeServer, { adminRoles }: Settings): Promise<[string, string][]> {
  const { sign, isUnconfigured } = server;
  if (!isUnconfigured || sign === undefined) return [];
  return [
    ['User token', await sign(randomUUID(), 'user', TOKEN_MS)],
    ['Admin token', await sign(randomUUID(), adminRoles[0] ?? 'admin', TOKEN_MS)],
  ];
}

function databaseLine(url: string, server: RealtimeServer, settings: Settings): string {
  const kind = settings.databaseUrl === undefined ? 'embedded' : 'DATABASE_URL';
  const problem = server.databaseProblem === null ? '' : `, waiting: ${server.databaseProblem}`;
  return `${url} (${kind}${problem})`;
}

function nextStep(server: RealtimeServer, { enableConsole }: Settings): string {
  if (server.isUnconfigured && !enableConsole)
    return 'Both tokens are valid for 24 hours. Ctrl-C stops the server.';
  if (server.isUnconfigured)
    return 'Open the page in two browsers and send a message. Both tokens are valid for 24 hours. Ctrl-C stops the server.';
  return server.sign === undefined
    ? 'Connect with a token from your issuer. Ctrl-C stops the server.'
    : `Create a token with: ${programName()} token --user <id> --role user. Ctrl-C stops the server.`;
}

/** The host to open in a browser: a wildcard or loopback address is reached as localhost. */
function hostForBrowser(host: string): string {
  if (host === '127.0.0.1' || host === '0.0.0.0' || host === '::' || host === '::1') return 'localhost';
  return isIP(host) === 6 ? `[${host}]` : host;
}
