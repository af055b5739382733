export { CLOSE, INVALID_HANDSHAKE_CLOSE, mayReconnect } from './close-codes.js';
export {
  AUTH_FAILURE_REASONS,
  type AuthFailureReason,
  ERRORS,
  type ErrorBody,
  type ErrorCode,
  type ErrorFields,
  ProtocolError,
  type RetryPolicy,
} from './errors.js';
export { CHANNEL_NAME_PATTERN, LIMITS, SUBPROTOCOL, TOKEN_SUBPROTOCOL_PREFIX } from './limits.js';
export type {
  ChangeEvent,
  ClientMessage,
  Connected,
  PresenceMap,
  PresenceMode,
  PresenceState,
  PresenceUpdate,
  RowChange,
  ServerMessage,
  ServerMessageType,
} from './schemas.js';
