import { RawSocket } from './raw-socket.js';
import type { TestServer } from './test-server.js';

/** Sends a request in one write and returns everything received until the connection closed. */
export async function exchange(
  server: TestServer,
  request: string | Buffer,
  waits: 'for the server' | 'for nothing',
): Promise<string> {
  const socket = new RawSocket(server);
  socket.write(request);
  if (waits === 'for nothing') socket.socket.end();
  await socket.gone;
  return socket.text;
}

/** Returns the HTTP statuses of all answers in a text. */
export const statusesOf = (text: string) =>
  [...text.matchAll(/HTTP\/1\.1 (\d{3})/g)].map((match) => Number(match[1]));

/** Returns a server error (5xx) or a leaked internal detail in an answer; undefined if there is none. */
export function problemOf(answer: string): string | undefined {
  const status = statusesOf(answer).find((code) => code >= 500);
  if (status !== undefined) return `status ${status}`;
  return /INTERNAL|node_modules|root:x?:0|"private": true|\bat .+:\d+:\d+\)/.exec(answer)?.[0];
}

/** Builds the head of a request, including a Host header. */
export const head = (line: string, ...headers: string[]) =>
  [`${line} HTTP/1.1`, 'Host: localhost', ...headers, '', ''].join('\r\n');
