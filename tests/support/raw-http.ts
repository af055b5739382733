import { RawSocket } from './raw-socket.js';
import type { TestServer } from './test-server.js';

/** Sends all of it at once and answers everything that came until the connection ended. */
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

/** The statuses of all answers in it. */
export const statusesOf = (text: string) =>
  [...text.matchAll(/HTTP\/1\.1 (\d{3})/g)].map((match) => Number(match[1]));

/** What no answer may hold: a failure of the server's, or a piece of its inside. */
export function problemOf(answer: string): string | undefined {
  const status = statusesOf(answer).find((code) => code >= 500);
  if (status !== undefined) return `status ${status}`;
  return /INTERNAL|node_modules|root:x?:0|"private": true|\bat .+:\d+:\d+\)/.exec(answer)?.[0];
}

/** The head of a request, with its Host. */
export const head = (line: string, ...headers: string[]) =>
  [`${line} HTTP/1.1`, 'Host: localhost', ...headers, '', ''].join('\r\n');
