import { ERRORS, ProtocolError } from '@goforward/realtime-protocol';
import type { FastifyError } from 'fastify';

/** An error as an HTTP response. */
export interface ErrorReply {
  readonly status: number;
  readonly headers: Readonly<Record<string, string>>;
  readonly error: ProtocolError;
}

/** Returns the response for a ProtocolError. */
export function errorReply(error: ProtocolError): ErrorReply {
  const { retry_after: retryAfter } = error.body;
  return {
    status: ERRORS[error.code].http ?? 500,
    headers: {
      ...(retryAfter === undefined ? {} : { 'retry-after': String(retryAfter) }),
      ...(error.code === 'AUTH_FAILED' ? { 'www-authenticate': 'Bearer' } : {}),
    },
    error,
  };
}

/** Returns the ProtocolError for anything thrown: INTERNAL, without details, unless the client caused it. */
export function protocolErrorOf(thrown: unknown, maxBodyBytes: number): ProtocolError {
  if (thrown instanceof ProtocolError) return thrown;
  const { code = '', statusCode = 500 } = (thrown ?? {}) as Partial<FastifyError>;
  if (code === 'FST_ERR_CTP_BODY_TOO_LARGE') {
    return new ProtocolError('MESSAGE_TOO_LARGE', { fields: { max_bytes: maxBodyBytes } });
  }
  if (code === 'FST_ERR_CTP_INVALID_MEDIA_TYPE') return invalid('content-type', 'must be application/json');
  if (code === 'FST_ERR_CTP_INVALID_CONTENT_LENGTH') {
    return invalid('content-length', 'does not match the length of the body');
  }
  if (statusCode >= 400 && statusCode < 500) return invalid('request', 'is malformed');
  return new ProtocolError('INTERNAL', { cause: thrown });
}

/** Returns VALIDATION_FAILED for one named part of the request. */
export function invalid(field: string, problem: string): ProtocolError {
  return new ProtocolError('VALIDATION_FAILED', { details: `${field}: ${problem}`, fields: { field } });
}
