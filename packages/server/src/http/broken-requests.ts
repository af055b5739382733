import type { Socket } from 'node:net';
import { ProtocolError } from '@goforward/realtime-protocol';
import type { HttpSockets } from './http-sockets.js';
import { rawAnswer } from './raw-answer.js';

/** Responses to requests that Node's HTTP parser rejects; no route ever sees them. */
const RESPONSES: Readonly<Record<string, readonly [status: number, details: string]>> = {
  HPE_HEADER_OVERFLOW: [431, 'the header is too large'],
  ERR_HTTP_REQUEST_TIMEOUT: [408, 'the request took too long to arrive'],
};
const MALFORMED = [400, 'this is not HTTP'] as const;

/**
 * Answers requests that are not HTTP, too large or too slow with an error object, like all other requests, and
 * ends their sockets.
 */
export function answerBrokenRequests(
  sockets: HttpSockets,
  counters: { refused(code: string): void },
): (error: Error & { code?: string }, socket: Socket) => void {
  return (error, socket) => {
    if (error.code === 'ECONNRESET') socket.destroy();
    // One that is ending already is destroyed when its peer does not close it.
    if (!socket.writable) return;
    const [status, details] = RESPONSES[error.code ?? ''] ?? MALFORMED;
    const refusal = new ProtocolError('VALIDATION_FAILED', { details, fields: { field: 'request' } });
    counters.refused(refusal.code);
    sockets.endBroken(socket, rawAnswer(refusal, { status }));
  };
}
