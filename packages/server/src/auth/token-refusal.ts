import { type AuthFailureReason, ProtocolError } from '@goforward/realtime-protocol';

/**
 * Details for every wrong token. The specification fixes this text; the `reason` field tells the cases apart.
 */
const INVALID_TOKEN = 'Invalid or expired token';

/**
 * AUTH_FAILED with its reason, and a message for the log that says what is wrong and which setting decides.
 */
export class TokenRefusal extends ProtocolError {
  readonly reason: AuthFailureReason;
  readonly logMessage: string;

  constructor(
    reason: AuthFailureReason,
    logMessage: string,
    options: { details?: string; cause?: unknown } = {},
  ) {
    const { details = INVALID_TOKEN, cause } = options;
    super('AUTH_FAILED', { details, fields: { reason }, ...(cause === undefined ? {} : { cause }) });
    this.reason = reason;
    this.logMessage = logMessage;
  }
}

/** Returns the refusal of a request that needs a user's token and has none, or an anonymous one. */
export function missingToken(): TokenRefusal {
  return new TokenRefusal('missing', "A user's token is needed: there was none, or it has no user", {
    details: 'A token of a user is needed',
  });
}
