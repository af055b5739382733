import { type IpRange, ipInRanges, parseIpRange } from '../lib/ip-range.js';
import type { Settings } from './settings-table.js';

/**
 * Whether the server runs as it comes: generated secret, embedded PostgreSQL, reachable from this machine
 * only, not in production. Only then may it print its secret, connection string and ready tokens.
 */
export function isUnconfigured(settings: Settings, nodeEnv: string | undefined): boolean {
  const { jwtSecret, jwtPublicKey, jwksUrl, databaseUrl, host } = settings;
  const hasKey = jwtSecret !== undefined || jwtPublicKey !== undefined || jwksUrl !== undefined;
  return !hasKey && databaseUrl === undefined && isLoopback(host) && nodeEnv !== 'production';
}

function isLoopback(host: string): boolean {
  const loopback: IpRange | undefined = parseIpRange('loopback');
  return host.toLowerCase() === 'localhost' || (loopback !== undefined && ipInRanges(host, [loopback]));
}
