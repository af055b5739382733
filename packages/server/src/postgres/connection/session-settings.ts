/**
 * What every session of ours starts with, so that no ALTER ROLE, ALTER DATABASE or postgresql.conf changes
 * how we write and read values. An empty search path finds pg_catalog alone: all other names are qualified.
 */
const PINNED = {
  client_encoding: 'UTF8',
  TimeZone: 'UTC',
  DateStyle: 'ISO, MDY',
  IntervalStyle: 'iso_8601',
  extra_float_digits: '1',
  bytea_output: 'hex',
  lc_monetary: 'C',
  search_path: '',
  statement_timeout: '0',
  lock_timeout: '0',
  idle_in_transaction_session_timeout: '0',
  default_transaction_isolation: 'read committed',
  standard_conforming_strings: 'on',
} as const;

/** The statements that give a new session the settings that all of ours have. */
export const PIN_SESSION = Object.entries(PINNED)
  .map(([name, value]) => `SET ${name} = '${value}'`)
  .join('; ');
