import { decodeProtectedHeader, errors } from 'jose';
import { formatDuration } from '../lib/duration.js';
import { shownText } from '../lib/shown-text.js';
import { TokenRefusal } from './token-refusal.js';

/** What the sentences about a refused token name. */
export interface VerifierFacts {
  /** What tokens are verified with: the name of its setting. */
  readonly keyName: string;
  readonly algorithms: readonly string[];
  readonly toleranceMs: number;
}

/** The refusal of a token with which jose threw this error; undefined where the key set, not the token, is at fault. */
export function refusalOfJose(error: unknown, token: string, facts: VerifierFacts): TokenRefusal | undefined {
  if (isFaultOfKeySet(error)) return undefined;
  if (error instanceof errors.JWTExpired || error instanceof errors.JWTClaimValidationFailed)
    return refusalOfClaim(error, facts);
  if (error instanceof errors.JOSEAlgNotAllowed) {
    const { keyName, algorithms } = facts;
    const sentence = `The token is signed by ${algorithmOf(token)}; with ${keyName}, REALTIME_JWT_ALGORITHMS allows ${algorithms.join(', ')}`;
    return new TokenRefusal('algorithm', sentence, { cause: error });
  }
  if (
    error instanceof errors.JWSSignatureVerificationFailed ||
    error instanceof errors.JWKSNoMatchingKey ||
    error instanceof errors.JWKSMultipleMatchingKeys
  )
    return new TokenRefusal('signature', `The token was signed with another key than ${facts.keyName}`, {
      cause: error,
    });
  const sentence =
    error instanceof errors.JOSENotSupported
      ? 'The token has a critical header that is not supported'
      : 'The token is not a JWT';
  return new TokenRefusal('malformed', sentence, { cause: error });
}

/** Anything but a key set that does not answer is the token's own fault, rubbish in its header included. */
function isFaultOfKeySet(error: unknown): boolean {
  if (error instanceof errors.JWKSTimeout || error instanceof errors.JWKSInvalid) return true;
  if (error instanceof errors.JOSEError) return error.code === 'ERR_JOSE_GENERIC';
  return error instanceof TypeError && error.message === 'fetch failed';
}

function refusalOfClaim(
  error: errors.JWTExpired | errors.JWTClaimValidationFailed,
  { toleranceMs }: VerifierFacts,
): TokenRefusal {
  const { claim, payload, reason } = error;
  const tolerance = `REALTIME_JWT_CLOCK_TOLERANCE is ${formatDuration(toleranceMs)}`;
  const refused = (...[cause, sentence]: [TokenRefusal['reason'], string]) =>
    new TokenRefusal(cause, sentence, { cause: error });
  if (reason === 'invalid') return refused('claims', `The claim ${claim} of the token is not a number`);
  switch (claim) {
    case 'exp':
      return refused('expired', `The token expired at ${instant(payload.exp)}; ${tolerance}`);
    case 'nbf':
      return refused(
        'not_yet_valid',
        `The token is not valid before ${instant(payload.nbf)} (nbf); ${tolerance}`,
      );
    case 'iss':
      return refused('issuer', `The issuer ${claimText(payload.iss)} is not REALTIME_JWT_ISSUER`);
    case 'aud':
      return refused('audience', `The audience ${claimText(payload.aud)} is not REALTIME_JWT_AUDIENCE`);
    default:
      return refused('claims', `The claim ${claim} of the token is wrong`);
  }
}

/** Seconds since 1970 as people read them; as they are, where no date has them. */
export function instant(seconds: number | undefined): string {
  const date = new Date((seconds ?? Number.NaN) * 1000);
  return Number.isNaN(date.getTime()) ? String(seconds) : date.toISOString();
}

function claimText(value: unknown): string {
  if (value === undefined) return '(none)';
  return shownText(typeof value === 'string' ? value : (JSON.stringify(value) ?? ''));
}

function algorithmOf(token: string): string {
  try {
    return shownText(String(decodeProtectedHeader(token).alg));
  } catch {
    return 'an unknown algorithm';
  }
}
