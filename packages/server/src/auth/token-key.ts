import type { Settings } from '../config/settings-table.js';
import { StartupError } from '../lib/startup-error.js';
import { hasGeneratedSecret, loadGeneratedSecret } from './generated-secret.js';
import { signToken } from './token-signer.js';
import type { TokenRules, VerificationKey } from './token-verifier.js';

/** Signs a token for this server; `expiresIn` in ms, null for a token without end. */
export type Sign = (userId: string, role: string, expiresIn: number | null) => Promise<string>;

/**
 * The key that verifies tokens: the configured one, else the generated secret of the data folder. In production
 * (`nodeEnv`) none is generated: throws StartupError where the data folder has none, and creates nothing.
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
      'NODE_ENV is production and there is no key for tokens: set REALTIME_JWT_SECRET (32 random bytes or more), REALTIME_JWT_PUBLIC_KEY or REALTIME_JWKS_URL.',
      { exitCode: 2 },
    );
  }
  return { kind: 'secret', secret: await loadGeneratedSecret(dataDir), isGenerated: true };
}

/** What tokens must fulfil besides their signature. */
export function tokenRules(settings: Settings): TokenRules {
  return {
    algorithms: settings.jwtAlgorithms,
    issuer: settings.jwtIssuer,
    audience: settings.jwtAudience,
    clockToleranceMs: settings.jwtClockTolerance,
  };
}

/** How tokens are signed with this key; undefined for a key that can only verify. */
export function signerOf(key: VerificationKey, rules: TokenRules): Sign | undefined {
  if (key.kind !== 'secret') return undefined;
  return (userId, role, expiresIn) => signToken({ userId, role, expiresIn }, key.secret, rules);
}
