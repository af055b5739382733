import { generateKeyPairSync, type KeyObject, sign as signBytes } from 'node:crypto';
import { createServer, type RequestListener, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { type ErrorBody, ProtocolError } from '@goforward/realtime-protocol';
import { SignJWT } from 'jose';
import { afterEach, describe, expect, it } from 'vitest';
import { type Log, silentLog } from '../lib/log.js';
import { TokenVerifier } from './token-verifier.js';

const one = generateKeyPairSync('ec', { namedCurve: 'P-256' });
const two = generateKeyPairSync('rsa', { modulusLength: 2048 });
const servers: Server[] = [];

/** A host of key sets, on its own port. */
async function host(answer: RequestListener): Promise<string> {
  const server = createServer(answer);
  servers.push(server);
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}/jwks.json`;
}

const jwk = (key: KeyObject, kid: string) => ({ ...key.export({ format: 'jwk' }), kid });
const keySet: RequestListener = (_, response) => {
  response.end(JSON.stringify({ keys: [jwk(one.publicKey, 'one'), jwk(two.publicKey, 'two')] }));
};

function verifier(url: string, log: Log = silentLog, clock?: () => number): TokenVerifier {
  const clocks = clock && { clock, wallClock: { epochMs: clock } };
  return new TokenVerifier({ kind: 'jwks', url }, {}, log, clocks);
}

function sign(alg: string, kid: string, key: KeyObject | Uint8Array): Promise<string> {
  return new SignJWT({ sub: 'ann' }).setProtectedHeader({ alg, kid }).sign(key);
}

async function refusal(verifying: Promise<unknown>): Promise<ErrorBody> {
  const error: unknown = await verifying.catch((reason: unknown) => reason);
  if (!(error instanceof ProtocolError) || error.code !== 'AUTH_FAILED') throw error;
  return error.body;
}

/** The fields of an error of the key set. */
const NO_KEYS = {
  error: 'authentication failed',
  code: 'AUTH_FAILED',
  details: 'The key set for tokens is temporarily unavailable',
};

/** A log that collects the messages of errors. */
function recorded(): { log: Log; messages: string[] } {
  const messages: string[] = [];
  return { log: { ...silentLog, error: (_, message) => messages.push(message) }, messages };
}

afterEach(async () => {
  for (const server of servers.splice(0)) {
    server.closeAllConnections();
    await new Promise((resolve) => server.close(resolve));
  }
});

describe('with a remote key set', () => {
  it('a token is verified by the key that it names', async () => {
    const tokens = verifier(await host(keySet));
    expect((await tokens.verify(await sign('ES256', 'one', one.privateKey)))?.userId).toBe('ann');
    expect((await tokens.verify(await sign('RS256', 'two', two.privateKey)))?.userId).toBe('ann');
  });

  it('the set is fetched once for many tokens at the same time', async () => {
    let reads = 0;
    const url = await host((request, response) => {
      reads += 1;
      keySet(request, response);
    });
    const tokens = verifier(url);
    const token = await sign('ES256', 'one', one.privateKey);
    await Promise.all(Array.from({ length: 20 }, () => tokens.verify(token)));
    await tokens.verify(token);
    expect(reads).toBe(1);
  });

  it('a token with a foreign key, an unknown key id or a secret is refused, and nothing is logged', async () => {
    const { log, messages } = recorded();
    const tokens = verifier(await host(keySet), log);
    const secret = new TextEncoder().encode(JSON.stringify(jwk(one.publicKey, 'one')));
    const foreign = generateKeyPairSync('ec', { namedCurve: 'P-256' });
    for (const [token, reason] of [
      [await sign('ES256', 'one', foreign.privateKey), 'signature'],
      [await sign('ES256', 'three', one.privateKey), 'signature'],
      [await sign('ES256', 'two', one.privateKey), 'signature'],
      [await sign('HS256', 'one', secret), 'algorithm'],
      ['garbage', 'malformed'],
    ] as const) {
      expect(await refusal(tokens.verify(token))).toMatchObject({
        details: 'Invalid or expired token',
        reason,
      });
    }
    expect(messages).toEqual([]);
  });

  it.each<[string, RequestListener]>([
    ['closes the connection', (request) => request.socket.destroy()],
    ['answers with an error', (_, response) => response.writeHead(500).end()],
    ['redirects', (_, response) => response.writeHead(302, { location: '/other' }).end()],
    ['does not answer with JSON', (_, response) => response.end('<html>')],
    ['does not answer with a key set', (_, response) => response.end('{"keys": 7}')],
  ])('if the host %s, the error is not that of a bad token, and it is logged', async (_, answer) => {
    const { log, messages } = recorded();
    const tokens = verifier(await host(answer), log);
    const token = await sign('ES256', 'one', one.privateKey);
    expect(await refusal(tokens.verify(token))).toEqual(NO_KEYS);
    expect(messages).toEqual(['The key set of REALTIME_JWKS_URL could not be used']);
  });

  it('a key that is too short is an error of the key set, not of the token', async () => {
    const short = generateKeyPairSync('rsa', { modulusLength: 1024 });
    const { log, messages } = recorded();
    const url = await host((_, response) =>
      response.end(JSON.stringify({ keys: [jwk(short.publicKey, 'one')] })),
    );
    const parts = [{ alg: 'RS256', kid: 'one' }, { sub: 'ann' }];
    const input = parts.map((part) => Buffer.from(JSON.stringify(part)).toString('base64url')).join('.');
    const signature = signBytes('sha256', Buffer.from(input), short.privateKey).toString('base64url');
    expect(await refusal(verifier(url, log).verify(`${input}.${signature}`))).toEqual(NO_KEYS);
    expect(messages).toEqual(['The key set of REALTIME_JWKS_URL could not be used']);
  });

  it('failures are logged at most once in ten seconds, however many tokens are sent', async () => {
    const { log, messages } = recorded();
    const tokens = verifier(await host((request) => request.socket.destroy()), log);
    const token = await sign('ES256', 'one', one.privateKey);
    for (let n = 0; n < 5; n++) expect(await refusal(tokens.verify(token))).toEqual(NO_KEYS);
    expect(messages).toHaveLength(1);
  });

  it('tokens are refused while its host is unreachable', async () => {
    let isUp = false;
    const url = await host((request, response) => {
      if (isUp) keySet(request, response);
      else request.socket.destroy();
    });
    const tokens = verifier(url);
    const token = await sign('ES256', 'one', one.privateKey);
    expect(await refusal(tokens.verify(token))).toEqual(NO_KEYS);
    isUp = true;
    expect((await tokens.verify(token))?.userId).toBe('ann');
  });

  it('it is fetched again after ten minutes; if that fails, tokens stay valid and the failure is logged', async () => {
    let now = Date.now();
    let isUp = true;
    let reads = 0;
    let warn: (message: string) => void = () => undefined;
    const url = await host((request, response) => {
      reads += 1;
      if (isUp) keySet(request, response);
      else request.socket.destroy();
    });
    const warned = new Promise<string>((resolve) => {
      warn = resolve;
    });
    const tokens = verifier(url, { ...silentLog, warn: (_, message) => warn(message) }, () => now);
    const token = await sign('ES256', 'one', one.privateKey);
    await tokens.verify(token);
    isUp = false;
    now += 10 * 60_000;
    expect((await tokens.verify(token))?.userId).toBe('ann');
    expect(await warned).toBe(
      'Refreshing the key set of REALTIME_JWKS_URL failed; the last keys stay in use',
    );
    await tokens.verify(token);
    expect(reads).toBe(2);
  });
});
