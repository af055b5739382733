import { createPublicKey, type KeyObject } from 'node:crypto';
import { LIMITS, ProtocolError } from '@goforward/realtime-protocol';
import { type JWTPayload, type JWTVerifyOptions, jwtVerify } from 'jose';
import { type Clock, monotonicClock, type WallClock, wallClock } from '../lib/clock.js';
import type { Log } from '../lib/log.js';
import { isNestedDeeper } from '../lib/nesting.js';
import { RateLimitedLog } from '../lib/rate-limited-log.js';
import { StartupError } from '../lib/startup-error.js';
import { type Identity, identityOf, isAnonymousToken } from './identity.js';
import { claimsTooDeep, issuedInFuture, refusalFromJoseError, type VerifierSettings } from './jose-errors.js';
import { RemoteKeys } from './remote-keys.js';
import { TokenRefusal } from './token-refusal.js';

/** The key that verifies tokens. */
export type VerificationKey =
  | { readonly kind: 'secret'; readonly secret: string; readonly isGenerated?: boolean }
  | { readonly kind: 'public-key'; readonly pem: string }
  | { readonly kind: 'jwks'; readonly url: string };

export interface TokenRules {
  readonly algorithms?: readonly string[] | undefined;
  readonly issuer?: string | undefined;
  readonly audience?: string | undefined;
  /** How far the signer's clock may be off for `exp`, `nbf` and `iat`, in ms. Default: 0. */
  readonly clockToleranceMs?: number | undefined;
}

/** The clocks of a server; tests have their own. */
interface Clocks {
  readonly clock: Clock;
  readonly wallClock: WallClock;
}

const SYSTEM_CLOCKS: Clocks = { clock: monotonicClock, wallClock };
const MIN_RSA_BITS = 2048;
const SECRET_ALGORITHMS = ['HS256', 'HS384', 'HS512'];
const RSA_ALGORITHMS = ['RS256', 'RS384', 'RS512', 'PS256', 'PS384', 'PS512'];
const JWKS_ALGORITHMS = [...RSA_ALGORITHMS, 'ES256', 'ES384', 'ES512', 'EdDSA', 'Ed25519'];
const CURVE_ALGORITHMS: Readonly<Record<string, string>> = {
  prime256v1: 'ES256',
  secp384r1: 'ES384',
  secp521r1: 'ES512',
};

/** Verifies tokens: the signature by an algorithm that fits the key, times, issuer, audience and user. */
export class TokenVerifier {
  readonly #key: KeyObject | Uint8Array | RemoteKeys;
  readonly #options: JWTVerifyOptions;
  readonly #settings: VerifierSettings;
  readonly #wallClock: WallClock;
  readonly #log: RateLimitedLog<'key'>;

  /** Throws StartupError when the key cannot be read or an algorithm does not fit it. */
  constructor(key: VerificationKey, rules: TokenRules, log: Log, clocks: Clocks = SYSTEM_CLOCKS) {
    const { material, suitable } = prepareKey(key, log, clocks.clock);
    const algorithms = rules.algorithms ?? [];
    const unfit = algorithms.find((algorithm) => !suitable.includes(algorithm));
    if (unfit !== undefined) {
      throw new StartupError(
        `REALTIME_JWT_ALGORITHMS: ${unfit} does not fit the configured key. Use one of ${suitable.join(', ')}.`,
        { exitCode: 2 },
      );
    }
    this.#key = material;
    const toleranceMs = rules.clockToleranceMs ?? 0;
    const allowed = algorithms.length > 0 ? [...algorithms] : suitable;
    this.#settings = { keyName: keyNameOf(key), algorithms: allowed, toleranceMs };
    this.#options = {
      algorithms: allowed,
      clockTolerance: toleranceMs / 1000,
      ...(rules.issuer === undefined ? {} : { issuer: rules.issuer }),
      ...(rules.audience === undefined ? {} : { audience: rules.audience }),
    };
    this.#wallClock = clocks.wallClock;
    this.#log = new RateLimitedLog(log, clocks.clock);
  }

  /** Cancels a fetch of keys: verifications that wait for it fail at once. */
  close(): void {
    if (this.#key instanceof RemoteKeys) this.#key.close();
  }

  /**
   * Returns the identity of a token, or null for a token that counts as none (Supabase's anon key). Throws
   * TokenRefusal, or AUTH_FAILED without a reason if the key set is not available.
   */
  async verify(token: string): Promise<Identity | null> {
    if (token.length > LIMITS.tokenLength)
      throw new TokenRefusal('claims', `The token is longer than ${LIMITS.tokenLength} characters`);
    const claims = await this.#claims(token);
    if (isNestedDeeper(claims, LIMITS.jsonDepth)) throw claimsTooDeep();
    const { iat } = claims;
    const now = Math.floor(this.#wallClock.epochMs() / 1000);
    if (iat !== undefined && iat > now + this.#settings.toleranceMs / 1000)
      throw issuedInFuture(iat, this.#settings);
    if (isAnonymousToken(claims)) return null;
    const identity = identityOf(claims);
    if (identity !== null) return identity;
    throw new TokenRefusal(
      'claims',
      'The token has no valid user in user_id or sub (1 to 255 characters that PostgreSQL can store, and not system), or the other of the two is not valid',
    );
  }

  /** Returns the claims after jose has checked signature, times, issuer and audience. */
  async #claims(token: string): Promise<JWTPayload> {
    const options = { ...this.#options, currentDate: new Date(this.#wallClock.epochMs()) };
    try {
      const { payload } =
        this.#key instanceof RemoteKeys
          ? await jwtVerify(token, this.#key.find, options)
          : await jwtVerify(token, this.#key, options);
      return payload;
    } catch (error) {
      if (error instanceof ProtocolError) throw error;
      const refusal = refusalFromJoseError(error, token, this.#settings);
      if (refusal !== undefined) throw refusal;
      this.#log.error('key', { err: error }, 'The key set of REALTIME_JWKS_URL could not be used');
      throw new ProtocolError('AUTH_FAILED', {
        details: 'The key set for tokens is temporarily unavailable',
        cause: error,
      });
    }
  }
}

/** Returns the setting of the key, as log messages name it. */
function keyNameOf(key: VerificationKey): string {
  switch (key.kind) {
    case 'secret':
      return key.isGenerated === true
        ? 'the generated secret of the data folder (REALTIME_JWT_SECRET is not set)'
        : 'REALTIME_JWT_SECRET';
    case 'public-key':
      return 'REALTIME_JWT_PUBLIC_KEY';
    case 'jwks':
      return 'those of REALTIME_JWKS_URL';
  }
}

function prepareKey(
  key: VerificationKey,
  log: Log,
  clock: Clock,
): {
  material: KeyObject | Uint8Array | RemoteKeys;
  suitable: string[];
} {
  switch (key.kind) {
    case 'secret':
      return { material: new TextEncoder().encode(key.secret), suitable: SECRET_ALGORITHMS };
    case 'jwks':
      return { material: new RemoteKeys(key.url, log, clock), suitable: JWKS_ALGORITHMS };
    case 'public-key': {
      const material = readPublicKey(key.pem);
      return { material, suitable: algorithmsOf(material) };
    }
  }
}

function readPublicKey(pem: string): KeyObject {
  try {
    return createPublicKey(pem);
  } catch (cause) {
    throw new StartupError('REALTIME_JWT_PUBLIC_KEY is not a public key in PEM format.', {
      exitCode: 2,
      cause,
    });
  }
}

function algorithmsOf(key: KeyObject): string[] {
  const curve = key.asymmetricKeyDetails?.namedCurve ?? '';
  const byCurve = CURVE_ALGORITHMS[curve];
  if (key.asymmetricKeyType === 'rsa') {
    if ((key.asymmetricKeyDetails?.modulusLength ?? 0) >= MIN_RSA_BITS) return RSA_ALGORITHMS;
    throw new StartupError(`REALTIME_JWT_PUBLIC_KEY must have at least ${MIN_RSA_BITS} bits (RFC 7518).`, {
      exitCode: 2,
    });
  }
  if (key.asymmetricKeyType === 'ed25519') return ['EdDSA', 'Ed25519'];
  if (key.asymmetricKeyType === 'ec' && byCurve !== undefined) return [byCurve];
  throw new StartupError('REALTIME_JWT_PUBLIC_KEY must be an RSA, EC (P-256, P-384, P-521) or Ed25519 key.', {
    exitCode: 2,
  });
}
