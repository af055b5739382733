import type { Socket } from 'node:net';
import { ProtocolError } from '@goforward/realtime-protocol';

/** Responses to requests that Node's HTTP parser rejects; no route ever sees them. */
const RESPONSES: Readonly<Record<string, readonly [status: string, details: string]>> = {
  HPE_HEADER_OVERFLOW: ['431 Request Header Fields Too Large', 'the header is too large'],
  ERR_HTTP_REQUEST_TIMEOUT: ['408 Request Timeout', 'the request took too long to arrive'],
};
const MALFORMED = ['400 Bad Request', 'this is not HTTP'] as const;

/**
 * Answers requests that are not HTTP, too large or too slow with an error object, like all other requests.
 */
export function answerBrokenRequests(counters: {
  refused(code: string): void;
}): (error: Error & { code?: string }, socket: Socket) => void {
  return (error, socket) => {
    if (error.code === 'ECONNRESET' || !socket.writable) {
      socket.destroy();
      return;
    }
    const [status, details] = RESPONSES[error.code ?? ''] ?? MALFORMED;
    const { code, body } = new ProtocolError('VALIDATION_FAILED', { details, fields: { field: 'request' } });
    counters.refused(code);
    const text = JSON.stringify(body);
    socket.end(
      `HTTP/1.1 ${status}\r\nconnection: close\r\ncontent-type: application/json; charset=utf-8\r\ncontent-length: ${Buffer.byteLength(text)}\r\n\r\n${text}`,
    );
  };
}
