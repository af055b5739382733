import type { RequestListener } from 'node:http';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { away, hanging, type Issuer, json, startIssuer } from '../../../../tests/support/issuer.js';
import { fetchKeySet } from './key-set.js';

const uncancelled = new AbortController().signal;

let issuer: Issuer;
beforeEach(async () => {
  issuer = await startIssuer();
});
afterEach(() => issuer.stop());

const big = (bytes: number) => ({ keys: [], padding: 'x'.repeat(bytes) });

describe('an issuer that', () => {
  it.each<[string, RequestListener, string]>([
    ['closes the connection', away, 'the connection to its host failed'],
    ['answers with an error', (_, response) => response.writeHead(500).end(), 'HTTP status 500'],
    [
      'redirects',
      (_, response) => response.writeHead(302, { location: '/other' }).end(),
      'HTTP status 302; redirects are not followed',
    ],
    ['does not answer with JSON', (_, response) => response.end('<html>'), 'not a JSON Web Key Set'],
    ['does not answer with a key set', json({ keys: 7 }), 'not a JSON Web Key Set'],
    ['answers with null', json(null), 'not a JSON Web Key Set'],
    ['has keys that are no objects', json({ keys: [1] }), 'not a JSON Web Key Set'],
    [
      'sends deeply nested JSON',
      (_, response) => response.end('['.repeat(1_000_000)),
      'not a JSON Web Key Set',
    ],
    ['sends a key set of over 1 MB', json(big(1024 * 1024)), 'larger than 1048576 bytes'],
    [
      'sends without end',
      (_, response) => {
        const more = () => {
          while (response.write('x'.repeat(65_536)));
          response.once('drain', more);
        };
        more();
      },
      'larger than 1048576 bytes',
    ],
    [
      'has ten thousand keys',
      json({ keys: Array(10_000).fill({ kty: 'EC', kid: 'one' }) }),
      'has 10000 keys',
    ],
    [
      'breaks off in the middle',
      (request, response) => {
        response.write('{"keys": [', () => request.socket.destroy());
      },
      'the connection to its host failed',
    ],
  ])('%s has no key set, and the error says why, without its address', async (_, answer, reason) => {
    issuer.answer = answer;
    const error: unknown = await fetchKeySet(issuer.url, uncancelled).catch((fault: unknown) => fault);
    expect(error).toMatchObject({ name: 'KeySetError', message: expect.stringContaining(reason) });
    expect(String(error)).not.toContain(issuer.url);
  });

  it('sends its answer drop by drop is given five seconds', { timeout: 15_000 }, async () => {
    let drops: NodeJS.Timeout | undefined;
    issuer.answer = (_, response) => {
      drops = setInterval(() => response.write(' '), 100);
      response.on('close', () => clearInterval(drops));
    };
    const began = performance.now();
    await expect(fetchKeySet(issuer.url, uncancelled)).rejects.toThrow('did not send it within 5 s');
    expect(performance.now() - began).toBeGreaterThan(4_900);
    expect(performance.now() - began).toBeLessThan(8_000);
  });

  it('hangs is not waited for once the fetch is cancelled', async () => {
    issuer.answer = hanging;
    const cancelled = new AbortController();
    const fetching = fetchKeySet(issuer.url, cancelled.signal).catch((fault: unknown) => fault);
    await expect.poll(() => issuer.fetches).toBe(1);
    const began = performance.now();
    cancelled.abort();
    expect(await fetching).toMatchObject({ name: 'KeySetError' });
    expect(performance.now() - began).toBeLessThan(2_000);
  });
});
