import type { IncomingHttpHeaders } from 'node:http';
import { TOKEN_SUBPROTOCOL_PREFIX } from '@goforward/realtime-protocol';

const BEARER = /^Bearer +(\S+) *$/i;

/**
 * Returns the token in `Authorization: Bearer`, or undefined. For another scheme it returns '', which is not
 * a valid token.
 */
export function bearerToken(headers: IncomingHttpHeaders): string | undefined {
  const { authorization } = headers;
  return authorization === undefined ? undefined : (BEARER.exec(authorization)?.[1] ?? '');
}

/**
 * Returns the token of a handshake: `?token=`, `Authorization: Bearer`, or the sub-protocol `bearer.<token>`.
 * An empty one counts as none: clients send it where they have no token.
 */
export function handshakeToken(query: URLSearchParams, headers: IncomingHttpHeaders): string | undefined {
  const offered = (headers['sec-websocket-protocol'] ?? '').split(',').map((name) => name.trim());
  const inProtocol = offered.find((name) => name.startsWith(TOKEN_SUBPROTOCOL_PREFIX));
  return (
    presentText(query.get('token')) ??
    bearerToken(headers) ??
    presentText(inProtocol?.slice(TOKEN_SUBPROTOCOL_PREFIX.length))
  );
}

function presentText(text: string | null | undefined): string | undefined {
  return text === '' || text === null ? undefined : text;
}
