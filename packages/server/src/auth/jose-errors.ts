import { LIMITS } from '@goforward/realtime-protocol';
import { decodeProtectedHeader, errors } from 'jose';
import { formatDuration } from '../lib/duration.js';
import { isNestedDeeper } from '../lib/nesting.js';
import { quotedText } from '../lib/quoted-text.js';
import { TokenRefusal } from './token-refusal.js';

/** The verifier's settings, as log messages name them. */
export interface VerifierSettings {
  /** The setting of the key. */
  readonly keyName: string;
  readonly algorithms: readonly string[];
  readonly toleranceMs: number;
}

/**
 * Returns the refusal for an error that jose threw while it verified `token`, or undefined if the key of the key set
 * could not be used.
 */
export function refusalFromJoseError(
  error: unknown,
  token: string,
  settings: VerifierSettings,
): TokenRefusal | undefined {
  if (error instanceof errors.JWTExpired || error instanceof errors.JWTClaimValidationFailed)
    return claimRefusal(error, settings);
  const refuse = (reason: TokenRefusal['reason'], logMessage: string) =>
    new TokenRefusal(reason, logMessage, { cause: error });
  const { keyName, algorithms } = settings;
  if (error instanceof errors.JOSEAlgNotAllowed) {
    const allowed = `REALTIME_JWT_ALGORITHMS allows ${algorithms.join(', ')}`;
    return refuse('algorithm', `The token is signed by ${algorithmOf(token)}; with ${keyName}, ${allowed}`);
  }
  if (error instanceof errors.JWKSMultipleMatchingKeys)
    return refuse(
      'signature',
      'Several keys of REALTIME_JWKS_URL fit the token: it must name one by kid, and the keys must have different ones',
    );
  if (isSignatureError(error))
    return refuse('signature', `The token was signed with another key than ${keyName}`);
  if (error instanceof errors.JOSENotSupported)
    return refuse('malformed', 'The token has a critical header that is not supported');
  return isMalformed(error, token) ? refuse('malformed', 'The token is not a JWT') : undefined;
}

/** For garbage in the header, jose throws errors of any kind. */
function isMalformed(error: unknown, token: string): boolean {
  if (error instanceof errors.JWSInvalid || error instanceof errors.JWTInvalid) return true;
  try {
    decodeProtectedHeader(token);
    return false;
  } catch {
    return true;
  }
}

function isSignatureError(error: unknown): boolean {
  return error instanceof errors.JWSSignatureVerificationFailed || error instanceof errors.JWKSNoMatchingKey;
}

function claimRefusal(
  error: errors.JWTExpired | errors.JWTClaimValidationFailed,
  { toleranceMs }: VerifierSettings,
): TokenRefusal {
  const { claim, payload, reason } = error;
  // The refusals below quote claims, and writing a value as JSON recurses.
  if (isNestedDeeper(payload, LIMITS.jsonDepth)) return claimsTooDeep();
  const refuse = (cause: TokenRefusal['reason'], logMessage: string) =>
    new TokenRefusal(cause, logMessage, { cause: error });
  if (reason === 'invalid') return refuse('claims', `The claim ${claim} of the token is not a number`);
  const tolerance = toleranceText(toleranceMs);
  switch (claim) {
    case 'exp':
      return refuse('expired', `The token expired at ${isoTime(payload.exp)}; ${tolerance}`);
    case 'nbf':
      return refuse(
        'not_yet_valid',
        `The token is not valid before ${isoTime(payload.nbf)} (nbf); ${tolerance}`,
      );
    case 'iss':
      return refuse('issuer', `The issuer ${quotedClaim(payload.iss)} is not REALTIME_JWT_ISSUER`);
    case 'aud':
      return refuse('audience', `The audience ${quotedClaim(payload.aud)} is not REALTIME_JWT_AUDIENCE`);
    default:
      return refuse('claims', `The claim ${claim} of the token is wrong`);
  }
}

export function claimsTooDeep(): TokenRefusal {
  return new TokenRefusal(
    'claims',
    `The claims of the token are nested deeper than ${LIMITS.jsonDepth} levels`,
  );
}

/** Returns the refusal of a token with `iat` in the future, which jose does not check. */
export function issuedInFuture(iat: number, { toleranceMs }: VerifierSettings): TokenRefusal {
  return new TokenRefusal(
    'not_yet_valid',
    `The token was issued in the future, at ${isoTime(iat)}; ${toleranceText(toleranceMs)}`,
  );
}

function toleranceText(toleranceMs: number): string {
  return `REALTIME_JWT_CLOCK_TOLERANCE is ${formatDuration(toleranceMs)}`;
}

/** Formats seconds since 1970 in ISO 8601, or as the number if it is out of the range of dates. */
function isoTime(seconds: number | undefined): string {
  const date = new Date((seconds ?? Number.NaN) * 1000);
  return Number.isNaN(date.getTime()) ? String(seconds) : date.toISOString();
}

function quotedClaim(value: unknown): string {
  if (value === undefined) return '(none)';
  return quotedText(typeof value === 'string' ? value : (JSON.stringify(value) ?? ''));
}

function algorithmOf(token: string): string {
  try {
    return quotedText(String(decodeProtectedHeader(token).alg));
  } catch {
    return 'an unknown algorithm';
  }
}
