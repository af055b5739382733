import { SignJWT } from 'jose';
import { wallClock } from '../lib/clock.js';
import type { TokenRules } from './token-verifier.js';

export interface TokenRequest {
  readonly userId: string;
  readonly role: string;
  /** Lifetime in ms; null: the token does not expire. */
  readonly expiresIn: number | null;
}

/** Signs a token with the shared secret. The token fulfils `rules`. */
export async function signToken(
  request: TokenRequest,
  secret: string,
  rules: TokenRules = {},
): Promise<string> {
  const algorithm = rules.algorithms?.find((name) => name.startsWith('HS')) ?? 'HS256';
  const now = Math.floor(wallClock.epochMs() / 1000);
  const token = new SignJWT({ role: request.role })
    .setProtectedHeader({ alg: algorithm, typ: 'JWT' })
    .setSubject(request.userId)
    .setIssuedAt(now);
  if (request.expiresIn !== null)
    token.setExpirationTime(now + Math.max(1, Math.round(request.expiresIn / 1000)));
  if (rules.issuer !== undefined) token.setIssuer(rules.issuer);
  if (rules.audience !== undefined) token.setAudience(rules.audience);
  return token.sign(new TextEncoder().encode(secret));
}
