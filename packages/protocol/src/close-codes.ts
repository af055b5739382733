/** The WebSocket close codes of RFC 6455 that this server sends. The error table has those from 4000. */
export const CLOSE = {
  NORMAL: 1000,
  PROTOCOL_ERROR: 1002,
  INVALID_UTF8: 1007,
  TOO_LARGE: 1009,
  INTERNAL: 1011,
  SERVICE_RESTART: 1012,
} as const;

/**
 * Close code of a handshake that is refused because its channel name or a query value is invalid. The client
 * must not repeat it unchanged.
 */
export const INVALID_HANDSHAKE_CLOSE = 4500;

/** Returns whether a client may reconnect after this close code; after 4401 it needs a new token. */
export function mayReconnect(code: number): boolean {
  return code < 4500;
}
