import { ERRORS, type ErrorCode, ProtocolError } from '@goforward/realtime-protocol';
import { describe, expect, test } from 'vitest';
import { errorReply, invalid, protocolErrorOf } from './error-reply.js';

const MAX_BYTES = 1000;

test.each(Object.keys(ERRORS) as ErrorCode[])('%s is answered with the status of the table', (code) => {
  const { status, headers, error } = errorReply(new ProtocolError(code));
  expect(status).toBe(ERRORS[code].http ?? 500);
  expect(headers).toEqual(code === 'AUTH_FAILED' ? { 'www-authenticate': 'Bearer' } : {});
  expect(error.body).toEqual({ error: ERRORS[code].text, code });
});

test('retry_after is also sent as a header', () => {
  const error = new ProtocolError('RATE_LIMIT_EXCEEDED', { fields: { retry_after: 7 } });
  expect(errorReply(error)).toEqual({ status: 429, headers: { 'retry-after': '7' }, error });
});

describe('a thrown value becomes', () => {
  test('itself, if it is a ProtocolError', () => {
    const error = new ProtocolError('CHANNEL_NOT_FOUND');
    expect(protocolErrorOf(error, MAX_BYTES)).toBe(error);
  });

  test.each([
    ['FST_ERR_CTP_BODY_TOO_LARGE', 413, 'MESSAGE_TOO_LARGE', undefined],
    ['FST_ERR_CTP_INVALID_MEDIA_TYPE', 415, 'VALIDATION_FAILED', 'content-type'],
    ['FST_ERR_CTP_INVALID_CONTENT_LENGTH', 400, 'VALIDATION_FAILED', 'content-length'],
    ['FST_ERR_BAD_URL', 400, 'VALIDATION_FAILED', 'request'],
    ['FST_ERR_MAX_PARAM_LENGTH', 414, 'VALIDATION_FAILED', 'request'],
    ['FST_ERR_OTHER', 500, 'INTERNAL', undefined],
  ])('%s of Fastify (%i) becomes %s', (code, statusCode, expected, field) => {
    const thrown = Object.assign(new Error('the words of a library'), { code, statusCode });
    const { body } = protocolErrorOf(thrown, MAX_BYTES);
    expect(body.code).toBe(expected);
    expect(body.field).toBe(field);
    expect(JSON.stringify(body)).not.toContain('library');
    if (expected === 'MESSAGE_TOO_LARGE') expect(body.max_bytes).toBe(MAX_BYTES);
  });

  test.each([
    new Error('SELECT secret FROM users'),
    Object.assign(new Error('relation'), { code: '42P01', statusCode: undefined }),
    'text',
    42,
    null,
    undefined,
    {},
  ])('INTERNAL without a word about the cause, for %s', (thrown) => {
    expect(protocolErrorOf(thrown, MAX_BYTES).body).toEqual({ error: 'internal error', code: 'INTERNAL' });
  });
});

test('an error about one part of a request names it in a field and in the details', () => {
  expect(invalid('echo', 'must be true or false').body).toEqual({
    error: 'validation failed',
    code: 'VALIDATION_FAILED',
    details: 'echo: must be true or false',
    field: 'echo',
  });
});
