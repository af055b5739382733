import { describe, expect, it } from 'vitest';
import { CLOSE, mayReconnect } from './close-codes.js';
import { ERRORS, type ErrorCode, ProtocolError } from './errors.js';

/** Code, HTTP status and close code, as in the protocol reference. */
const TABLE: [ErrorCode, number | null, number | null][] = [
  ['AUTH_FAILED', 401, 4401],
  ['PERMISSION_DENIED', 403, 4503],
  ['ORIGIN_NOT_ALLOWED', 403, 4503],
  ['FEATURE_DISABLED', 403, 4503],
  ['CHANNEL_NOT_FOUND', 404, 4504],
  ['TABLE_NOT_ALLOWED', 403, 4503],
  ['TABLE_NOT_FOUND', 404, 4504],
  ['TRIGGER_NOT_FOUND', 404, 4504],
  ['SUBSCRIPTION_NOT_FOUND', 404, 4504],
  ['NOT_FOUND', 404, 4504],
  ['VALIDATION_FAILED', 400, null],
  ['INVALID_JSON', 400, null],
  ['UNKNOWN_MESSAGE_TYPE', 400, null],
  ['DB_SUBSCRIPTION_FAILED', 400, null],
  ['METHOD_NOT_ALLOWED', 405, null],
  ['CHANNEL_EXISTS', 409, null],
  ['MESSAGE_TOO_LARGE', 413, null],
  ['RATE_LIMIT_EXCEEDED', 429, 4429],
  ['CHANNEL_FULL', 429, 4430],
  ['CHANNEL_LIMIT_REACHED', 429, 4430],
  ['CONNECTION_LIMIT_REACHED', 429, 4430],
  ['STALE_CONNECTION', null, 4408],
  ['SLOW_CONSUMER', null, 4409],
  ['POLICY_ERROR', null, null],
  ['CONDITION_TOO_SLOW', null, null],
  ['CHANNEL_CLOSED', null, 4510],
  ['DATABASE_UNAVAILABLE', 503, null],
  ['INTERNAL', 500, 1011],
];

describe('the error table', () => {
  it.each(TABLE)('%s is HTTP %s and closes with %s', (code, http, close) => {
    expect(ERRORS[code]).toMatchObject({ http, close });
  });

  it('has exactly the codes of the reference', () => {
    expect(Object.keys(ERRORS).sort()).toEqual(TABLE.map(([code]) => code).sort());
  });

  it('allows reconnecting exactly when a retry or a new token can help', () => {
    for (const { close, retry } of Object.values(ERRORS)) {
      if (close !== null) expect([close, mayReconnect(close)]).toEqual([close, retry !== 'never']);
    }
  });

  it('uses close codes of the application range, except 1011', () => {
    for (const { close } of Object.values(ERRORS)) {
      if (close === null || close === CLOSE.INTERNAL) continue;
      expect(close).toBeGreaterThanOrEqual(4000);
      expect(close).toBeLessThan(5000);
    }
  });

  it.each(Object.entries(ERRORS))(
    '%s explains its cause and its fix in whole sentences',
    (_, { doc, cause, fix }) => {
      for (const text of [doc, cause, fix]) expect(text).toMatch(/^[A-Z`].{18,}\.$/);
      expect(new Set([doc, cause, fix]).size).toBe(3);
    },
  );

  it.each([
    ['AUTH_FAILED', 'authentication failed'],
    ['PERMISSION_DENIED', 'insufficient permissions'],
    ['RATE_LIMIT_EXCEEDED', 'rate limit exceeded'],
  ] as const)('the text of %s is literally "%s"', (code, text) => {
    expect(new ProtocolError(code).body.error).toBe(text);
  });
});

describe('close codes', () => {
  it.each([1000, 1001, 1006, 1012, 4000, 4401, 4499])('a client may reconnect after %d', (code) => {
    expect(mayReconnect(code)).toBe(true);
  });

  it.each([4500, 4503, 4510, 4999])('a client must not reconnect after %d', (code) => {
    expect(mayReconnect(code)).toBe(false);
  });
});

describe('a protocol error', () => {
  it('has a body of only text and code by default', () => {
    expect(new ProtocolError('CHANNEL_FULL').body).toEqual({
      error: 'channel is full',
      code: 'CHANNEL_FULL',
    });
  });

  it('can have its own text, details and fields', () => {
    const error = new ProtocolError('CHANNEL_FULL', {
      error: 'channel lobby is full',
      details: 'Try another one',
      fields: { limit: 0 },
    });
    expect(error.message).toBe('channel lobby is full');
    expect(error.code).toBe('CHANNEL_FULL');
    expect(error.body).toEqual({
      error: 'channel lobby is full',
      code: 'CHANNEL_FULL',
      details: 'Try another one',
      limit: 0,
    });
  });

  it('keeps its cause for the log, not in the body', () => {
    const cause = new Error('SELECT secret FROM users');
    const error = new ProtocolError('INTERNAL', { cause });
    expect(error.cause).toBe(cause);
    expect(JSON.stringify(error.body)).not.toContain('secret');
    expect('cause' in new ProtocolError('INTERNAL')).toBe(false);
  });
});
