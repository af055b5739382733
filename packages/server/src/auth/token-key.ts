import type { Settings } from '../config/settings-table.js';
import { loadGeneratedSecret } from './generated-secret.js';
import { signToken } from './token-signer.js';
import type { TokenRules, VerificationKey } from './token-verifier.js';

/** Signs a token for this server; `expiresIn` in ms, null for a token without end. */
export type Sign = (userId: string, role: string, expiresIn: number | null) => Promise<string>;

/** The key that verifies tokens: the configured one, else the generated secret of the data folder. */
export async function verificationKey(settings: Settings, dataDir: string): Promise<VerificationKey> {
  const { jwtSecret, jwtPublicKey, jwksUrl } = settings;
  if (jwtPublicKey !== undefined) return { kind: 'public-key', pem: jwtPublicKey };
  if (jwksUrl !== undefined) return { kind: 'jwks', url: jwksUrl };
  return { kind: 'secret', secret: jwtSecret ?? (await loadGeneratedSecret(dataDir)) };
}

/** What tokens must fulfil besides their signature. */
export function tokenRules(settings: Settings): TokenRules {
  return { algorithms: settings.jwtAlgorithms, issuer: settings.jwtIssuer, audience: settings.jwtAudience };
}

/** How tokens are signed with this key; undefined for a key that can only verify. */
export function signerOf(key: VerificationKey, rules: TokenRules): Sign | undefined {
  if (key.kind !== 'secret') return undefined;
  return (userId, role, expiresIn) => signToken({ userId, role, expiresIn }, key.secret, rules);
}
