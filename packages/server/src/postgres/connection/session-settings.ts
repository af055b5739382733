/**
 * Settings of every session of the server, so that no ALTER ROLE, ALTER DATABASE or postgresql.conf changes
 * how values are written and read. An empty search path finds pg_catalog only: all other names are qualified.
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

/** The SET statements to run first in every new session. */
export const PIN_SESSION = Object.entries(PINNED)
  .map(([name, value]) => `SET ${name} = '${value}'`)
  .join('; ');
