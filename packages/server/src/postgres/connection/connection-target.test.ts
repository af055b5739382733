import pg from 'pg';
import { describe, expect, it, vi } from 'vitest';
import { connectionOptions } from './connection-target.js';

const BASE = 'postgres://u:p&sslmode=require@db.example:6543/app';

function urlOf(url: string): string | undefined {
  return connectionOptions(url, 'test', 1_000).connectionString;
}

describe('the sslmode of a connection string', () => {
  it.each(['allow', 'prefer', 'require', 'verify-ca'])(
    '%s is passed to pg as verify-full, its meaning in pg 8',
    (mode) => {
      expect(urlOf(`${BASE}?a=1&sslmode=${mode}&options=-c%20x%3D1#f`)).toBe(
        `${BASE}?a=1&sslmode=verify-full&options=-c%20x%3D1#f`,
      );
    },
  );

  it.each([
    '',
    '?application_name=x',
    '?sslmode=disable',
    '?sslmode=no-verify',
    '?sslmode=verify-full&sslnegotiation=direct',
    '?sslmode=',
    '?uselibpqcompat=true&sslmode=require',
    '?xsslmode=require',
  ])('in "%s" stays unchanged', (query) => {
    expect(urlOf(`${BASE}${query}`)).toBe(`${BASE}${query}`);
  });

  it('never makes pg print a warning, and gives the same TLS options as the original URL', () => {
    const warn = vi.spyOn(process, 'emitWarning').mockImplementation(() => undefined);
    try {
      const ours = new pg.Client(connectionOptions(`${BASE}?sslmode=require`, 'test', 1_000));
      expect(warn).not.toHaveBeenCalled();
      const plain = new pg.Client(`${BASE}?sslmode=require`);
      expect(ours).toMatchObject({ ssl: plain.ssl, host: plain.host, port: plain.port, user: plain.user });
      expect(plain.ssl).toEqual({});
    } finally {
      warn.mockRestore();
    }
  });

  it.each(['off', 'Require', 'verify_full'])('%s is rejected with a one-line error', (mode) => {
    expect(() => urlOf(`${BASE}?sslmode=${mode}`)).toThrow(
      `sslmode="${mode}" is not one of disable, no-verify, allow, prefer, require, verify-ca, verify-full`,
    );
  });
});
