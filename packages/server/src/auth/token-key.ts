import type { Settings } from '../config/settings-table.js';
import { StartupError } from '../lib/startup-error.js';
import { hasGeneratedSecret, loadGeneratedSecret } from './generated-secret.js';
import { signToken } from './token-signer.js';
import type { TokenRules, VerificationKey } from './token-verifier.js';

/** Signs a token for this server. `expiresIn` is in ms; null: the token does not expire. */
export type Sign = (userId: string, role: string, expiresIn: number | null) => Promise<string>;

/**
 * Returns the key that verifies tokens: the configured one, else the generated secret of the data folder. In
 * production (`nodeEnv`) no secret is generated: throws StartupError if the data folder has none, and creates
 * nothing.
 */
export async function verificationKey(
  settings: Settings,
  dataDir: string,
  nodeEnv: string | undefined,
): Promise<VerificationKey> {
  const { jwtSecret, jwtPublicKey, jwksUrl } = settings;
  if (jwtPublicKey !== undefined) return { kind: 'public-key', pem: jwtPublicKey };
  if (jwksUrl !== undefined) return { kind: 'jwks', url: jwksUrl };
  if (jwtSecret !== undefined) return { kind: 'secret', secret: jwtSecret };
  if (nodeEnv === 'production' && !(await hasGeneratedSecret(dataDir))) {
    throw new StartupError(
      'NODE_ENV is production and no key for tokens is configured: set REALTIME_JWT_SECRET (32 random bytes or more), REALTIME_JWT_PUBLIC_KEY or REALTIME_JWKS_URL.',
      { exitCode: 2 },
    );
  }
  return { kind: 'secret', secret: await loadGeneratedSecret(dataDir), isGenerated: true };
}

/** Returns the rules for tokens, besides their signature. */
export function tokenRules(settings: Settings): TokenRules {
  return {
    algorithms: settings.jwtAlgorithms,
    issuer: settings.jwtIssuer,
    audience: settings.jwtAudience,
    clockToleranceMs: settings.jwtClockTolerance,
  };
}

/** Returns a function that signs tokens with this key, or undefined for a key that can only verify. */
export function signerOf(key: VerificationKey, rules: TokenRules): Sign | undefined {
  if (key.kind !== 'secret') return undefined;
  return (userId, role, expiresIn) => signToken({ userId, role, expiresIn }, key.secret, rules);
}
