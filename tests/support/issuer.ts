import { generateKeyPairSync, type KeyObject } from 'node:crypto';
import { createServer, type RequestListener } from 'node:http';
import type { AddressInfo } from 'node:net';
import type { JWTPayload } from 'jose';
import { signClaims } from './tokens.js';

/** An issuer of tokens: a host of a key set, whose answers the test chooses. */
export interface Issuer {
  /** The URL of the key set. */
  readonly url: string;
  /** How many times the key set was asked for. */
  readonly fetches: number;
  /** Answers requests from now on; at first with the key set of all keys. */
  answer: RequestListener;
  /** Adds a key for ES256 to the key set. */
  add(kid: string): KeyObject;
  remove(kid: string): void;
  /** Signs a token that names the key `kid`: by that key, by `key`, or, if there is neither, by a foreign one. */
  sign(claims: JWTPayload, kid: string, key?: KeyObject): Promise<string>;
  stop(): Promise<void>;
}

/** Answers as an issuer that is away: the connection ends without an answer. */
export const away: RequestListener = (request) => void request.socket.destroy();
/** Answers as an issuer that hangs: the connection stays without an answer. */
export const hanging: RequestListener = () => undefined;

export function keyPair() {
  return generateKeyPairSync('ec', { namedCurve: 'P-256' });
}

/** A public key as a member of a key set. */
export function jwk(key: KeyObject, kid?: string) {
  return { ...key.export({ format: 'jwk' }), ...(kid === undefined ? {} : { kid }) };
}

/** Answers with this as JSON. */
export function json(value: unknown): RequestListener {
  return (_, response) => void response.end(JSON.stringify(value));
}

/** Starts an issuer with these keys, on its own port. */
export async function startIssuer(...kids: string[]): Promise<Issuer> {
  const pairs = new Map<string, ReturnType<typeof keyPair>>();
  const keySet: RequestListener = (request, response) =>
    json({ keys: [...pairs].map(([kid, { publicKey }]) => jwk(publicKey, kid)) })(request, response);
  const issuer = {
    url: '',
    fetches: 0,
    answer: keySet,
    add: (kid: string) => {
      const pair = keyPair();
      pairs.set(kid, pair);
      return pair.privateKey;
    },
    remove: (kid: string) => void pairs.delete(kid),
    sign: (claims: JWTPayload, kid: string, key = pairs.get(kid)?.privateKey) =>
      signClaims(claims, key ?? keyPair().privateKey, { alg: 'ES256', kid }),
    stop: async () => {
      server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
    },
  };
  const server = createServer((request, response) => {
    issuer.fetches += 1;
    issuer.answer(request, response);
  });
  for (const kid of kids) issuer.add(kid);
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  issuer.url = `http://127.0.0.1:${(server.address() as AddressInfo).port}/jwks.json`;
  return issuer;
}
