import type { IncomingMessage } from 'node:http';
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { type IpRange, parseIpRange } from '../lib/ip-range.js';
import { clientAddress } from './client-address.js';

function addressOf(
  peer: string | undefined,
  forwarded: string | undefined,
  trusted: readonly string[],
): string {
  const ranges = trusted.map(parseIpRange).filter((range): range is IpRange => range !== undefined);
  expect(ranges).toHaveLength(trusted.length);
  const headers = forwarded === undefined ? {} : { 'x-forwarded-for': forwarded };
  return clientAddress({ socket: { remoteAddress: peer }, headers } as unknown as IncomingMessage, ranges);
}

test.each<
  [
    what: string,
    peer: string | undefined,
    forwarded: string | undefined,
    trusted: readonly string[],
    address: string,
  ]
>([
  ['without a proxy it is the peer', '203.0.113.7', undefined, [], '203.0.113.7'],
  [
    'the header of an untrusted peer is ignored',
    '203.0.113.7',
    '198.51.100.1',
    ['10.0.0.0/8'],
    '203.0.113.7',
  ],
  ['a trusted proxy names the client', '10.0.0.1', '198.51.100.1', ['10.0.0.0/8'], '198.51.100.1'],
  ['a trusted proxy without the header is the client', '10.0.0.1', undefined, ['10.0.0.0/8'], '10.0.0.1'],
  ['an empty header names nobody', '10.0.0.1', '', ['10.0.0.0/8'], '10.0.0.1'],
  [
    'the last untrusted address of a chain counts',
    '10.0.0.1',
    '1.1.1.1, 198.51.100.1, 10.9.9.9',
    ['10.0.0.0/8'],
    '198.51.100.1',
  ],
  [
    'addresses further left, which a client can forge, are ignored',
    '10.0.0.1',
    '127.0.0.1, 198.51.100.1',
    ['10.0.0.0/8'],
    '198.51.100.1',
  ],
  [
    'the first address counts if all are trusted',
    '10.0.0.1',
    '10.0.0.3, 10.0.0.2',
    ['10.0.0.0/8'],
    '10.0.0.3',
  ],
  [
    'an invalid entry ends the chain at the last valid address',
    '10.0.0.1',
    '198.51.100.1, unknown, 10.0.0.2',
    ['10.0.0.0/8'],
    '10.0.0.2',
  ],
  ['a port is not part of the address', '10.0.0.1', '198.51.100.1:4711', ['10.0.0.0/8'], '198.51.100.1'],
  ['nor behind brackets', '10.0.0.1', '[2001:db8::5]:4711', ['10.0.0.0/8'], '2001:db8::/64'],
  ['the /64 network of an IPv6 address counts', '2001:db8:1:2:3:4:5:6', undefined, [], '2001:db8:1:2::/64'],
  ['loopback is a name for both families', '::1', '2001:db8::5', ['loopback'], '2001:db8::/64'],
  ['IPv6 proxies are trusted by network', 'fd00::1', '2001:db8::5', ['fd00::/8'], '2001:db8::/64'],
  [
    'an IPv4 address mapped into IPv6 counts as IPv4',
    '::ffff:10.0.0.1',
    '198.51.100.1',
    ['10.0.0.0/8'],
    '198.51.100.1',
  ],
  ['a socket that has already ended has no address', undefined, '198.51.100.1', ['loopback'], 'unknown'],
])('%s', (_what, peer, forwarded, trusted, address) => {
  expect(addressOf(peer, forwarded, trusted)).toBe(address);
});

test('several headers with this name are one chain', () => {
  const request = {
    socket: { remoteAddress: '127.0.0.1' },
    headers: { 'x-forwarded-for': ['1.1.1.1', '2.2.2.2'] },
  };
  const loopback = parseIpRange('loopback');
  expect(loopback).toBeDefined();
  expect(clientAddress(request as unknown as IncomingMessage, loopback ? [loopback] : [])).toBe('2.2.2.2');
});

test('nothing that a client adds in front changes the address that the proxy saw', () => {
  fc.assert(
    fc.property(fc.ipV4(), fc.array(fc.oneof(fc.ipV4(), fc.ipV6(), fc.string())), (seen, written) => {
      fc.pre(!seen.startsWith('10.'));
      const chain = [...written, seen].join(',');
      expect(addressOf('10.0.0.1', chain, ['10.0.0.0/8'])).toBe(seen);
    }),
  );
});
