import { type JWTPayload, SignJWT } from 'jose';

type Key = Parameters<SignJWT['sign']>[0];

/**
 * Signs a token with any claims and any key. Valid for an hour unless `exp` is given; `exp: null` never
 * expires.
 */
export async function signClaims(
  claims: Omit<JWTPayload, 'exp'> & { readonly exp?: number | null },
  key: string | Key,
  header: { readonly alg?: string; readonly kid?: string } = {},
): Promise<string> {
  const { exp = secondsFromNow(3600), ...others } = claims;
  return new SignJWT(exp === null ? others : { ...others, exp })
    .setProtectedHeader({ alg: 'HS256', ...header })
    .sign(typeof key === 'string' ? new TextEncoder().encode(key) : key);
}

/** Returns a time as tokens have it, in seconds since the Unix epoch. */
export function secondsFromNow(seconds: number): number {
  return Math.floor(Date.now() / 1000) + seconds;
}
