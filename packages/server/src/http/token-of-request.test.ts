import { describe, expect, test } from 'vitest';
import { bearerToken, handshakeToken } from './token-of-request.js';

describe('a token in the Authorization header', () => {
  test.each([
    [undefined, undefined],
    ['Bearer abc', 'abc'],
    ['bearer abc', 'abc'],
    ['BEARER   abc  ', 'abc'],
    ['Bearer', ''],
    ['Bearer ', ''],
    ['', ''],
    ['Basic abc', ''],
    ['abc', ''],
    ['Bearer a b', ''],
    ['xBearer abc', ''],
  ])('%j contains the token %j', (authorization, token) => {
    expect(bearerToken(authorization === undefined ? {} : { authorization })).toBe(token);
  });
});

describe('the token of a handshake', () => {
  const tokenOf = (query: string, headers: Record<string, string> = {}) =>
    handshakeToken(new URLSearchParams(query), headers);

  test.each([
    ['the query', 'token=q', {}],
    ['the header', '', { authorization: 'Bearer q' }],
    ['the sub-protocol', '', { 'sec-websocket-protocol': 'goforward.v1, bearer.q' }],
    ['a sub-protocol that is offered alone', '', { 'sec-websocket-protocol': 'bearer.q' }],
    ['the query rather than the header', 'token=q', { authorization: 'Bearer h' }],
    [
      'the header rather than the sub-protocol',
      '',
      { authorization: 'Bearer q', 'sec-websocket-protocol': 'bearer.p' },
    ],
  ])('is read from %s', (_where, query, headers) => {
    expect(tokenOf(query, headers)).toBe('q');
  });

  test('that is missing differs from an empty one', () => {
    expect(tokenOf('echo=false', { 'sec-websocket-protocol': 'goforward.v1' })).toBeUndefined();
    expect(tokenOf('token=')).toBe('');
    expect(tokenOf('', { 'sec-websocket-protocol': 'bearer.' })).toBe('');
  });

  test('is not searched further after an invalid one', () => {
    expect(tokenOf('token=', { authorization: 'Bearer h' })).toBe('');
  });
});
