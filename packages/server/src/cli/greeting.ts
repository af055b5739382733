import { randomUUID } from 'node:crypto';
import { isIP } from 'node:net';
import { describeDatabaseUrl } from '../config/credential-types.js';
import type { Settings } from '../config/settings-table.js';
import type { RealtimeServer } from '../server.js';
import { serverVersion } from '../version.js';

const READY_TOKEN_MS = 24 * 3_600_000;

/** What is printed when the server is up: where everything is, and, where it may be shown, how to get in. */
export async function greeting(server: RealtimeServer, settings: Settings): Promise<string> {
  const at = `${hostForPeople(settings.host)}:${server.port}`;
  const rows: [string, string][] = [
    ['Page', `http://${at}/`],
    ['WebSocket', `ws://${at}/realtime/channels/<channel>/ws?token=<token>`],
    ['API', `http://${at}/docs`],
  ];
  if (server.metricsPort !== undefined)
    rows.push(['Metrics', `http://${hostForPeople(settings.host)}:${server.metricsPort}/metrics`]);
  rows.push(['Database', databaseLine(server, settings)]);
  if (server.isUnconfigured && server.sign !== undefined) {
    const [user, admin] = [randomUUID(), randomUUID()];
    rows.push(['User token', `${await server.sign(user, 'user', READY_TOKEN_MS)}`]);
    rows.push([
      'Admin token',
      `${await server.sign(admin, settings.adminRoles[0] ?? 'admin', READY_TOKEN_MS)}`,
    ]);
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
    return 'Open the page in two browsers and say hello. Both tokens last 24 hours; Ctrl-C stops the server.';
  return server.sign === undefined
    ? 'Connect with a token of your issuer. Ctrl-C stops the server.'
    : 'Make a token with: goforward-realtime token --user <id> --role user. Ctrl-C stops the server.';
}

/** A browser on this machine reaches a server that listens everywhere as localhost. */
function hostForPeople(host: string): string {
  if (host === '127.0.0.1' || host === '0.0.0.0' || host === '::' || host === '::1') return 'localhost';
  return isIP(host) === 6 ? `[${host}]` : host;
}
