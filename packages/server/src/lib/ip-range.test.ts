import { describe, expect, it } from 'vitest';
import { type IpRange, ipInRanges, isLoopbackHost, parseIpRange } from './ip-range.js';

function ranges(...texts: string[]): IpRange[] {
  return texts.map((text) => {
    const range = parseIpRange(text);
    if (range === undefined) throw new Error(`${text} is not a range`);
    return range;
  });
}

describe('IP ranges', () => {
  it.each([
    ['10.1.2.3', '10.0.0.0/8'],
    ['10.1.2.3', '10.1.2.3'],
    ['10.1.2.3', '10.9.9.9/8'],
    ['203.0.113.7', '0.0.0.0/0'],
    ['fd00::1', 'fd00::/8'],
    ['::1', 'loopback'],
    ['127.8.8.8', 'loopback'],
    ['::ffff:127.0.0.1', 'loopback'],
    ['::ffff:10.1.2.3', '10.0.0.0/8'],
    ['::ffff:a01:203', '10.1.2.3'],
    ['10.1.2.3', '::ffff:10.0.0.0/104'],
    ['10.1.2.3', '::ffff:10.1.2.3'],
  ])('%s is in %s', (ip, range) => {
    expect(ipInRanges(ip, ranges(range))).toBe(true);
  });

  it.each([
    ['11.0.0.1', '10.0.0.0/8'],
    ['10.1.2.4', '10.1.2.3'],
    ['::1', '0.0.0.0/0'],
    ['10.1.2.3', '::/0'],
    ['::2', 'loopback'],
    ['10.1.2.3', 'loopback'],
    ['', '0.0.0.0/0'],
    ['localhost', 'loopback'],
    ['127.1', 'loopback'],
  ])('"%s" is not in %s', (ip, range) => {
    expect(ipInRanges(ip, ranges(range))).toBe(false);
  });

  it('an address needs to be in only one of several ranges, and is never in an empty list', () => {
    expect(ipInRanges('192.0.2.9', ranges('10.0.0.0/8', 'fd00::/8', '192.0.2.0/24'))).toBe(true);
    expect(ipInRanges('127.0.0.1', [])).toBe(false);
  });

  it.each([
    '',
    'proxy.example.com',
    '10.0.0',
    '127.1',
    '010.0.0.1',
    '10.0.0.0/33',
    '10.0.0.0/',
    '10.0.0.0/-1',
    '10.0.0.0/8/8',
    '10.0.0.0/255.0.0.0',
    '::/129',
    '::ffff:10.0.0.0/80',
    ' 10.0.0.1',
    'Loopback',
  ])('the text "%s" is rejected', (text) => {
    expect(parseIpRange(text)).toBeUndefined();
  });
});

describe('loopback hosts', () => {
  it.each(['localhost', 'LocalHost', '127.0.0.1', '127.8.8.8', '::1', '[::1]', '::ffff:127.0.0.1'])(
    '%s is one',
    (host) => {
      expect(isLoopbackHost(host)).toBe(true);
    },
  );

  it.each(['', '0.0.0.0', '::', '[::]', '10.0.0.1', 'localhost.example', '127.0.0.1.example', 'loopback'])(
    '"%s" is not',
    (host) => {
      expect(isLoopbackHost(host)).toBe(false);
    },
  );
});
