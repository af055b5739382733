import { STATUS_CODES } from 'node:http';
import type { ProtocolError } from '@goforward/realtime-protocol';

interface RawAnswerOptions {
  readonly status: number;
  readonly headers?: Readonly<Record<string, string>>;
  /** For the answer to HEAD, which has no body. */
  readonly withoutBody?: boolean;
}

/**
 * Returns the bytes of an error as the last answer on a socket: for requests that never become a response of
 * Node's server. Writing them cannot throw, whatever state the socket is in.
 */
export function rawAnswer(
  { body }: ProtocolError,
  { status, headers = {}, withoutBody = false }: RawAnswerOptions,
): string {
  const text = JSON.stringify(body);
  const lines = {
    connection: 'close',
    'content-type': 'application/json; charset=utf-8',
    'content-length': Buffer.byteLength(text),
    'cache-control': 'no-store',
    ...headers,
  };
  const head = Object.entries(lines).map(([name, value]) => `${name}: ${value}\r\n`);
  const statusLine = `HTTP/1.1 ${status} ${STATUS_CODES[status] ?? ''}\r\n`;
  return `${statusLine}${head.join('')}\r\n${withoutBody ? '' : text}`;
}
