import { createHmac } from 'node:crypto';

/**
 * Signs a token with HS256 that is valid for one hour.
 * @param {string} secret
 * @param {{ userId: string, role: string }} claims
 */
export function signToken(secret, { userId, role }) {
  const now = Math.floor(Date.now() / 1000);
  const head = encoded({ alg: 'HS256', typ: 'JWT' });
  const body = encoded({ sub: userId, role, iat: now, exp: now + 3600 });
  return `${head}.${body}.${createHmac('sha256', secret).update(`${head}.${body}`).digest('base64url')}`;
}

function encoded(value) {
  return Buffer.from(JSON.stringify(value)).toString('base64url');
}
