import { formatDuration } from '../lib/duration.js';
import { settingError } from './setting-error.js';
import { SETTINGS, type Settings } from './settings-table.js';

/** Rejects settings that are valid by themselves but contradict each other. */
export function checkConsistency(settings: Settings): void {
  checkKeys(settings);
  checkTimes(settings);
  checkPorts(settings);
  checkClaimSettings(settings);
}

function checkKeys(settings: Settings): void {
  const keys = ['jwtSecret', 'jwtPublicKey', 'jwksUrl'] as const;
  const set = keys.filter((key) => settings[key] !== undefined).map((key) => SETTINGS[key].env);
  if (set.length <= 1) return;
  const all = set.length === keys.length ? 'all' : 'both';
  throw settingError(`${enumerated(set)} are ${all} set. Set only the one that verifies tokens.`);
}

function checkTimes({ connectionTimeout, pingInterval }: Settings): void {
  if (connectionTimeout > pingInterval) return;
  const timeout = `${SETTINGS.connectionTimeout.env} (${formatDuration(connectionTimeout)})`;
  const ping = `${SETTINGS.pingInterval.env} (${formatDuration(pingInterval)})`;
  throw settingError(
    `${timeout} must be longer than ${ping}. Otherwise idle connections are closed before they can answer a ping.`,
  );
}

function checkPorts({ port, metricsPort }: Settings): void {
  if (metricsPort === undefined || metricsPort !== port || port === 0) return;
  throw settingError(
    `${SETTINGS.metricsPort.env} and ${SETTINGS.port.env} are both ${port}. Set them to different ports.`,
  );
}

/** PostgreSQL ignores the case of setting names. */
function checkClaimSettings({ claimSettings }: Settings): void {
  const names = claimSettings.map(({ name }) => name.toLowerCase());
  const twice = names.find((name, n) => names.indexOf(name) !== n);
  if (twice !== undefined)
    throw settingError(`${SETTINGS.claimSettings.env} sets ${twice} twice. Set it from one claim.`);
}

function enumerated(names: readonly string[]): string {
  return `${names.slice(0, -1).join(', ')} and ${names.at(-1)}`;
}
