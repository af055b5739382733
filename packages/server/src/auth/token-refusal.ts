import { type AuthFailureReason, ProtocolError } from '@goforward/realtime-protocol';

/** Of tokens that are wrong, whatever the reason: the specification's words. */
const INVALID = 'Invalid or expired token';

/** AUTH_FAILED with its reason, and a sentence for the log: what is wrong and which setting decides it. */
export class TokenRefusal extends ProtocolError {
  readonly reason: AuthFailureReason;
  readonly sentence: string;

  constructor(
    reason: AuthFailureReason,
    sentence: string,
    options: { details?: string; cause?: unknown } = {},
  ) {
    const { details = INVALID, cause } = options;
    super('AUTH_FAILED', { details, fields: { reason }, ...(cause === undefined ? {} : { cause }) });
    this.reason = reason;
    this.sentence = sentence;
  }
}

/** The refusal where a token is needed and none, or one of an anonymous user, was given. */
export function missingToken(): TokenRefusal {
  return new TokenRefusal('missing', 'No token of a user was given where one is needed', {
    details: 'A token is needed',
  });
}
