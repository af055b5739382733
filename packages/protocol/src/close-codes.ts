/** The WebSocket close codes of RFC 6455 that this server sends; codes from 4000 stand in the error table. */
export const CLOSE = {
  NORMAL: 1000,
  PROTOCOL_ERROR: 1002,
  INVALID_UTF8: 1007,
  TOO_LARGE: 1009,
  INTERNAL: 1011,
  SERVICE_RESTART: 1012,
} as const;

/** Whether a client may connect again after this close code (after `retry_after`, or with a new token on 4401). */
export function mayReconnect(code: number): boolean {
  return code < 4500;
}
