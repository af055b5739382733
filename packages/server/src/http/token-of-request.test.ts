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

  test.each([
    ['token=', {}],
    ['', { 'sec-websocket-protocol': 'bearer.' }],
    ['token=', { 'sec-websocket-protocol': 'goforward.v1, bearer.' }],
    ['echo=false', { 'sec-websocket-protocol': 'goforward.v1' }],
  ])('that is empty counts as none: %s %j', (query, headers) => {
    expect(tokenOf(query, headers)).toBeUndefined();
  });

  test('is searched further after an empty one, and not after an invalid one', () => {
    expect(tokenOf('token=', { authorization: 'Bearer h' })).toBe('h');
    expect(tokenOf('token=', { 'sec-websocket-protocol': 'bearer.p' })).toBe('p');
    expect(tokenOf('', { authorization: 'Basic h', 'sec-websocket-protocol': 'bearer.p' })).toBe('');
  });
});
