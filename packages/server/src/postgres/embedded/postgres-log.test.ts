import { expect, it } from 'vitest';
import { failureReason } from './postgres-log.js';

const PREFIX = '2026-01-31 12:00:00.000 UTC [123] ';

it.each([
  [
    `${PREFIX}LOG:  starting\n${PREFIX}FATAL:  data directory has wrong ownership\n`,
    'data directory has wrong ownership',
  ],
  [
    `${PREFIX}LOG:  could not bind IPv4 address "127.0.0.1": Address already in use\n${PREFIX}HINT:  Is another postmaster running?\n${PREFIX}FATAL:  could not create any TCP/IP sockets\n`,
    'could not bind IPv4 address "127.0.0.1": Address already in use; could not create any TCP/IP sockets',
  ],
  [
    'FATAL:  could not access the server configuration file\n',
    'could not access the server configuration file',
  ],
  [`${PREFIX}LOG:  one\n${PREFIX}LOG:  two\n`, 'two'],
  [
    'initdb: error: could not create directory "x": No space left on device\n',
    'initdb: error: could not create directory "x": No space left on device',
  ],
  [
    `${PREFIX}FATAL:  could not extend file "x"\n${PREFIX}HINT:  Check free disk space.\n${PREFIX}PANIC:  cannot abort\n`,
    'Check free disk space.; cannot abort',
  ],
  ['', ''],
])('reasonIn extracts the reason from %j', (text, reason) => {
  expect(failureReason(text)).toBe(reason);
});
