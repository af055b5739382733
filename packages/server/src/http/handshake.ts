import type { IncomingMessage } from 'node:http';
import { CHANNEL_NAME_PATTERN, type PresenceMode, ProtocolError } from '@goforward/realtime-protocol';
import { PRESENCE_MODES } from '@goforward/realtime-protocol/schemas';
import { invalid } from './error-reply.js';
import { handshakeToken } from './token-of-request.js';

/** The parameters of a proper handshake. */
export interface Handshake {
  readonly token: string | undefined;
  /** What it asks for, or why that is invalid: a browser can read the reason only once it is connected. */
  readonly asked: HandshakeRequest | ProtocolError;
}

export interface HandshakeRequest {
  readonly channel: string;
  readonly echo: boolean;
  readonly presence: PresenceMode;
  /** The client's position in the row changes: it receives those after it. */
  readonly cursor: string | undefined;
}

const PATH = /^\/realtime\/channels\/([^/]*)\/ws$/;
const CHANNEL_NAME = new RegExp(CHANNEL_NAME_PATTERN);
const KEY = /^[+/0-9A-Za-z]{22}==$/;
/** RFC 7230 tokens, separated by commas. */
const PROTOCOLS = /^[\w!#$%&'*+.^`|~-]+([ \t]*,[ \t]*[\w!#$%&'*+.^`|~-]+)*$/;

/**
 * Reads the handshake (RFC 6455, section 4.2.1). Throws what is always an HTTP status: NOT_FOUND for another
 * path, METHOD_NOT_ALLOWED, or VALIDATION_FAILED for what is not a proper handshake.
 */
export function readHandshake(request: IncomingMessage): Handshake {
  const { headers, method, url = '/' } = request;
  const [path = '', search = ''] = url.split('?', 2);
  const segment = PATH.exec(path)?.[1];
  if (segment === undefined) throw new ProtocolError('NOT_FOUND');
  if (method !== 'GET') throw new ProtocolError('METHOD_NOT_ALLOWED');
  if (headers['sec-websocket-version'] !== '13') throw invalid('sec-websocket-version', 'must be 13');
  if (!KEY.test(headers['sec-websocket-key'] ?? ''))
    throw invalid('sec-websocket-key', 'must be 16 bytes in base64');
  if (request.httpVersion === '1.0') throw invalid('request', 'must be HTTP/1.1');
  if (headers.host === undefined) throw invalid('host', 'is missing');
  if (!areValidProtocols(headers['sec-websocket-protocol']))
    throw invalid('sec-websocket-protocol', 'must be a list of different names');
  const query = new URLSearchParams(search);
  return { token: handshakeToken(query, headers), asked: readRequest(segment, query) };
}

function readRequest(segment: string, query: URLSearchParams): HandshakeRequest | ProtocolError {
  const channel = decodeSegment(segment);
  if (!CHANNEL_NAME.test(channel)) return invalid('name', 'is not a channel name');
  const echo = query.get('echo') ?? 'true';
  if (echo !== 'true' && echo !== 'false') return invalid('echo', 'must be true or false');
  const mode = query.get('presence') ?? 'each';
  const presence = PRESENCE_MODES.find((known) => known === mode);
  if (presence === undefined) return invalid('presence', `must be one of ${PRESENCE_MODES.join(', ')}`);
  return { channel, echo: echo === 'true', presence, cursor: query.get('cursor') ?? undefined };
}

/** Returns whether the offered sub-protocols are valid: none, or different names. */
function areValidProtocols(offered: string | undefined): boolean {
  if (offered === undefined) return true;
  const names = offered.split(',').map((name) => name.trim());
  return PROTOCOLS.test(offered) && new Set(names).size === names.length;
}

/** Returns '', which names no channel, for a segment that is not percent-encoded UTF-8. */
function decodeSegment(segment: string): string {
  try {
    return decodeURIComponent(segment);
  } catch {
    return '';
  }
}
