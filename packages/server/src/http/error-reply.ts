import { ERRORS, ProtocolError } from '@goforward/realtime-protocol';
import type { FastifyError } from 'fastify';

/** An error as an HTTP answer. */
export interface ErrorReply {
  readonly status: number;
  readonly headers: Readonly<Record<string, string>>;
  readonly error: ProtocolError;
}

/** The answer to a ProtocolError. */
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

/** The ProtocolError that fits whatever was thrown; INTERNAL, without a word about the cause, for what no client caused. */
export function protocolErrorOf(thrown: unknown, maxBodyBytes: number): ProtocolError {
  if (thrown instanceof ProtocolError) return thrown;
  const { code = '', statusCode = 500 } = (thrown ?? {}) as Partial<FastifyError>;
  if (code === 'FST_ERR_CTP_BODY_TOO_LARGE') {
    return new ProtocolError('MESSAGE_TOO_LARGE', { fields: { max_bytes: maxBodyBytes } });
  }
  if (code === 'FST_ERR_CTP_INVALID_MEDIA_TYPE')
    return invalid('content-type', 'a body must be application/json');
  if (code === 'FST_ERR_CTP_INVALID_CONTENT_LENGTH') {
    return invalid('content-length', 'is not the length of the body');
  }
  if (statusCode >= 400 && statusCode < 500) return invalid('request', 'cannot be understood');
  return new ProtocolError('INTERNAL', { cause: thrown });
}

/** VALIDATION_FAILED of one named part of the request. */
export function invalid(field: string, problem: string): ProtocolError {
  return new ProtocolError('VALIDATION_FAILED', { details: `${field}: ${problem}`, fields: { field } });
}
