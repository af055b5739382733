import { type JWTPayload, SignJWT } from 'jose';

type Key = Parameters<SignJWT['sign']>[0];

/** Tokens as an application of ours, or somebody else, makes them: any claims, any key. Valid for an hour unless `exp` says otherwise; with null for ever. */
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

/** A time in a token: seconds since the epoch. */
export function secondsFromNow(seconds: number): number {
  return Math.floor(Date.now() / 1000) + seconds;
}
