import { isLoopbackHost } from '../lib/ip-range.js';
import type { Settings } from './settings-table.js';

/**
 * Returns whether the server runs with its defaults: generated secret, embedded PostgreSQL, reachable only
 * from this machine, not in production. Only then may it print its secret, connection string and ready
 * tokens.
 */
export function isUnconfigured(settings: Settings, nodeEnv: string | undefined): boolean {
  const { jwtSecret, jwtPublicKey, jwksUrl, databaseUrl, host } = settings;
  const hasKey = jwtSecret !== undefined || jwtPublicKey !== undefined || jwksUrl !== undefined;
  return !hasKey && databaseUrl === undefined && isLoopbackHost(host) && nodeEnv !== 'production';
}
