import { describe, expect, it } from 'vitest';
import { connectionFault } from './connection-fault.js';

const TARGET = { address: 'db.example:5432', host: 'db.example', database: 'app', user: 'app_role' };

function withCode(code: string, message = 'some words'): Error {
  return Object.assign(new Error(message), { code });
}

describe('connectionFault', () => {
  it.each([
    ['ECONNREFUSED', 'connection refused at db.example:5432'],
    ['ENOTFOUND', 'host name db.example not found'],
    ['EAI_AGAIN', 'host name db.example could not be looked up'],
    ['ETIMEDOUT', 'no answer from db.example:5432'],
    ['ECONNRESET', 'connection to db.example:5432 lost'],
    ['57P01', 'PostgreSQL at db.example:5432 ended the connection'],
    ['57P03', 'PostgreSQL at db.example:5432 is starting up or shutting down'],
    ['53300', 'PostgreSQL at db.example:5432 has no free connections'],
  ])('classifies %s as unreachable', (code, reason) => {
    expect(connectionFault(withCode(code), TARGET)).toEqual({ kind: 'unreachable', reason });
  });

  it.each(['08006', '08P01'])("classifies %s as unreachable and passes on the server's message", (code) => {
    const fault = connectionFault(withCode(code, 'server login failed:\n role "app_role"'), TARGET);
    expect(fault).toEqual({
      kind: 'unreachable',
      reason: 'connection to db.example:5432 lost',
      advice: 'server message: server login failed: role "app_role"',
    });
  });

  it.each([
    'timeout expired',
    'Connection terminated due to connection timeout',
    'timeout exceeded when trying to connect',
    'Query read timeout',
    'Connection terminated unexpectedly',
    'Client has encountered a connection error and is not queryable',
  ])('classifies the driver error "%s" as unreachable', (message) => {
    expect(connectionFault(new Error(message), TARGET)).toMatchObject({ kind: 'unreachable' });
  });

  it.each([
    [withCode('28P01', 'password authentication failed for user "app_role"'), 'refused the user "app_role"'],
    [withCode('28000', 'role "app_role" does not exist'), 'refused the user "app_role"'],
    [
      withCode('28000', 'no pg_hba.conf entry for host "10.0.0.1", user "app_role"'),
      'pg_hba.conf has no entry',
    ],
    [
      withCode('28000', 'no pg_hba.conf entry for host "10.0.0.1", no encryption'),
      'accepts only TLS connections',
    ],
    [withCode('3D000', 'database "app" does not exist'), 'there is no database "app"'],
    [withCode('08P01', 'no such database: app'), 'there is no database "app"'],
    [new Error('The server does not support SSL connections'), 'does not support TLS'],
    [
      new Error('SASL: SCRAM-SERVER-FIRST-MESSAGE: client password must be a string'),
      'DATABASE_URL has none',
    ],
    [
      withCode('SELF_SIGNED_CERT_IN_CHAIN', 'self-signed certificate in certificate chain'),
      'TLS handshake failed (self-signed',
    ],
    [
      withCode('ERR_TLS_CERT_ALTNAME_INVALID', "Host: x. is not in the cert's altnames"),
      'TLS handshake failed',
    ],
  ])('classifies "%s" as refused with advice, and its reason for /readyz names no role', (error, advice) => {
    const fault = connectionFault(error, TARGET);
    expect(fault).toMatchObject({ kind: 'refused', advice: expect.stringContaining(advice) });
    expect(fault?.reason).not.toContain('app_role');
  });

  it.each(['23505', '42P01', '22012', '40001', '42501'])('ignores the statement error %s', (code) => {
    expect(connectionFault(withCode(code), TARGET)).toBeUndefined();
  });

  it('ignores a statement error whose message looks like a connection error', () => {
    expect(connectionFault(withCode('P0001', 'Connection terminated'), TARGET)).toBeUndefined();
  });
});
