/** What a client should do after an error: nothing will help, a later try may, a new token will, or the request must change. */
export type RetryPolicy = 'never' | 'later' | 'new-token' | 'change-request';

interface ErrorRow {
  /** HTTP status, or null where the error is only told over a socket. */
  readonly http: number | null;
  /** WebSocket close code, or null where the connection stays open (or HTTP alone answers). */
  readonly close: number | null;
  readonly retry: RetryPolicy;
  /** The literal `error` text; an error that names something (a channel) brings its own. */
  readonly text: string;
  /** One sentence for the reference page. */
  readonly doc: string;
}

/**
 * Every way to fail, by code. Close codes 4000 to 4499 allow a client to reconnect, 4500 to 4999 forbid it.
 * The reference page, HTTP statuses and close frames all come from this table.
 */
export const ERRORS = {
  AUTH_FAILED: {
    http: 401,
    close: 4401,
    retry: 'new-token',
    text: 'authentication failed',
    doc: 'The token is missing, invalid or expired; `reason` says which: `missing`, `malformed` (not a JWT), `signature` (another key), `expired`, `not_yet_valid`, `issuer`, `audience`, `algorithm`, `claims` (no usable user, or of another user). The log names the setting.',
  },
  PERMISSION_DENIED: {
    http: 403,
    close: 4503,
    retry: 'never',
    text: 'insufficient permissions',
    doc: 'The roles of the token do not allow it; `required_permission` names the right that is missing.',
  },
  ORIGIN_NOT_ALLOWED: {
    http: 403,
    close: 4503,
    retry: 'never',
    text: 'origin not allowed',
    doc: 'The `Origin` (or, on an unconfigured server, the `Host`) of the request is not one that may be used.',
  },
  FEATURE_DISABLED: {
    http: 403,
    close: 4503,
    retry: 'never',
    text: 'feature disabled',
    doc: 'A setting turned this off; `feature` names it.',
  },
  CHANNEL_NOT_FOUND: {
    http: 404,
    close: 4504,
    retry: 'never',
    text: 'channel not found',
    doc: 'There is no such channel, or it was deleted.',
  },
  TABLE_NOT_ALLOWED: {
    http: 403,
    close: 4503,
    retry: 'never',
    text: 'table not allowed',
    doc: 'Row changes of this table are not offered: a setting leaves it out, or it is of a kind that has none; `details` says which.',
  },
  TABLE_NOT_FOUND: {
    http: 404,
    close: 4504,
    retry: 'never',
    text: 'table not found',
    doc: 'There is no such table.',
  },
  TRIGGER_NOT_FOUND: {
    http: 404,
    close: 4504,
    retry: 'never',
    text: 'trigger not found',
    doc: 'The table is not set up for row changes.',
  },
  SUBSCRIPTION_NOT_FOUND: {
    http: 404,
    close: 4504,
    retry: 'never',
    text: 'subscription not found',
    doc: 'There is no such subscription to row changes, or it has ended.',
  },
  NOT_FOUND: {
    http: 404,
    close: 4504,
    retry: 'never',
    text: 'not found',
    doc: 'There is no such endpoint.',
  },
  VALIDATION_FAILED: {
    http: 400,
    close: null,
    retry: 'change-request',
    text: 'validation failed',
    doc: 'A part of the request has the wrong shape; `field` and `details` name it.',
  },
  INVALID_JSON: {
    http: 400,
    close: null,
    retry: 'change-request',
    text: 'invalid JSON',
    doc: 'The body or message is not JSON, is nested too deep, or is a binary frame.',
  },
  UNKNOWN_MESSAGE_TYPE: {
    http: 400,
    close: null,
    retry: 'change-request',
    text: 'unknown message type',
    doc: 'A socket message has a `type` that clients cannot send.',
  },
  DB_SUBSCRIPTION_FAILED: {
    http: 400,
    close: null,
    retry: 'change-request',
    text: 'failed to subscribe to database changes',
    doc: 'The table, a column or the condition cannot be used; `details` says why, in the words of PostgreSQL where they are its own.',
  },
  METHOD_NOT_ALLOWED: {
    http: 405,
    close: null,
    retry: 'change-request',
    text: 'method not allowed',
    doc: 'The endpoint exists, but not with this method; the `Allow` header lists those it has.',
  },
  CHANNEL_EXISTS: {
    http: 409,
    close: null,
    retry: 'change-request',
    text: 'channel already exists',
    doc: 'A channel of this name exists already.',
  },
  MESSAGE_TOO_LARGE: {
    http: 413,
    close: null,
    retry: 'change-request',
    text: 'message too large',
    doc: 'A message, body or presence state is over `max_bytes`. At the transport the socket is closed with 1009.',
  },
  RATE_LIMIT_EXCEEDED: {
    http: 429,
    close: 4429,
    retry: 'later',
    text: 'rate limit exceeded',
    doc: 'Too many messages, connections or errors; `retry_after` is in seconds.',
  },
  CHANNEL_FULL: {
    http: 429,
    close: 4430,
    retry: 'later',
    text: 'channel is full',
    doc: 'The channel has `limit` connections, its `max_subscribers`.',
  },
  CHANNEL_LIMIT_REACHED: {
    http: 429,
    close: 4430,
    retry: 'later',
    text: 'channel limit reached',
    doc: 'The server has `limit` channels and none that could be removed.',
  },
  CONNECTION_LIMIT_REACHED: {
    http: 429,
    close: 4430,
    retry: 'later',
    text: 'connection limit reached',
    doc: 'The server, the user or the address has `limit` connections.',
  },
  STALE_CONNECTION: {
    http: null,
    close: 4408,
    retry: 'later',
    text: 'connection is stale',
    doc: 'Nothing, not even a pong, came from the client for too long.',
  },
  SLOW_CONSUMER: {
    http: null,
    close: 4409,
    retry: 'later',
    text: 'connection reads too slowly',
    doc: 'More bytes were waiting for this connection than the outbox may hold.',
  },
  POLICY_ERROR: {
    http: null,
    close: null,
    retry: 'never',
    text: 'a row level security policy failed',
    doc: 'A policy, or the condition of `subscription_id`, raises an error for this user: the rows it fails on are not sent. Told once until the policy changes.',
  },
  CHANNEL_CLOSED: {
    http: null,
    close: 4510,
    retry: 'never',
    text: 'channel closed',
    doc: 'The channel was deleted while the connection was in it; `reason` says why.',
  },
  DATABASE_UNAVAILABLE: {
    http: 503,
    close: null,
    retry: 'later',
    text: 'database unavailable',
    doc: 'This needs PostgreSQL, which cannot be reached; `retry_after` is in seconds.',
  },
  INTERNAL: {
    http: 500,
    close: 1011,
    retry: 'later',
    text: 'internal error',
    doc: 'A defect of the server. The log has the cause; the answer does not.',
  },
} as const satisfies Record<string, ErrorRow>;

export type ErrorCode = keyof typeof ERRORS;

/** Why a token was refused. */
export const AUTH_FAILURE_REASONS = [
  'missing',
  'malformed',
  'signature',
  'expired',
  'not_yet_valid',
  'issuer',
  'audience',
  'algorithm',
  'claims',
  'revoked',
] as const;
export type AuthFailureReason = (typeof AUTH_FAILURE_REASONS)[number];

/** The fields that an error may carry beside `error`, `code` and `details`. */
export interface ErrorFields {
  readonly required_permission?: 'read' | 'write' | 'admin';
  readonly feature?: string;
  readonly field?: string;
  readonly max_bytes?: number;
  readonly retry_after?: number;
  readonly limit?: number;
  readonly reason?: string;
  readonly subscription_id?: string;
}

/** An error as clients receive it, over HTTP and in `system`/`error`. */
export interface ErrorBody extends ErrorFields {
  readonly error: string;
  readonly code: ErrorCode;
  readonly details?: string;
}

/** A fault that the client caused or must know of. Its body is safe to send: no stack, SQL, role or secret. */
export class ProtocolError extends Error {
  readonly code: ErrorCode;
  readonly body: ErrorBody;

  constructor(
    code: ErrorCode,
    options: { error?: string; details?: string; fields?: ErrorFields; cause?: unknown } = {},
  ) {
    const error = options.error ?? ERRORS[code].text;
    super(error, options.cause === undefined ? undefined : { cause: options.cause });
    this.name = 'ProtocolError';
    this.code = code;
    this.body = {
      error,
      code,
      ...(options.details === undefined ? {} : { details: options.details }),
      ...options.fields,
    };
  }
}
