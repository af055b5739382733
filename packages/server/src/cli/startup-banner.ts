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
  const at = `${hostForBrowser(settings.host)}:${server.port}`;
  const rows: [string, string][] = [
    ['Page', `http://${at}/`],
    ['WebSocket', `ws://${at}/realtime/channels/<channel>/ws?token=<token>`],
    ['API', `http://${at}/docs`],
  ];
  if (server.metricsPort !== undefined)
    rows.push(['Metrics', `http://${hostForBrowser(settings.host)}:${server.metricsPort}/metrics`]);
  rows.push(['Database', databaseLine(server, settings)]);
  if (server.isUnconfigured && server.sign !== undefined) {
    const [user, admin] = [randomUUID(), randomUUID()];
    rows.push(['User token', `${await server.sign(user, 'user', TOKEN_MS)}`]);
    rows.push(['Admin token', `${await server.sign(admin, settings.adminRoles[0] ?? 'admin', TOKEN_MS)}`]);
  }
  const width = Math.max(...rows.map(([name]) => name.length));
  const lines = rows.map(([name, value]) => `  ${name.padEnd(width)}  ${value}`);
  return [`GoForward Realtime ${serverVersion()}`, '', ...lines, '', `  ${nextStep(server)}`, ''].join('\n');
}

function databaseLine(server: RealtimeServer, settings: Settings): string {
  const url = server.isUnconfigured ? server.databaseUrl : describeDatabaseUrl(server.databaseUrl);
  const kind = settings.databaseUrl === undefined ? 'embedded' : 'DATABASE_URL';
  const problem = server.databaseProblem === null ? '' : `, waiting: ${server.databaseProblem}`;
  return `${url} (${kind}${problem})`;
}

function nextStep(server: RealtimeServer): string {
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
