/** The fixed limits of the protocol; no setting changes them. */
export const LIMITS = {
  /** Characters of a channel's name. */
  channelNameLength: 100,
  /** Characters of an event's name. */
  eventLength: 200,
  /** Characters of a `ref` that is text. */
  refLength: 64,
  /** Levels of nesting in any JSON. */
  jsonDepth: 64,
  /** Characters of a token: the headers of a handshake hold no longer one. */
  tokenLength: 16_384,
  /** Bytes of one user's presence state, as JSON. */
  presenceStateBytes: 8192,
  /** `presence`/`join` messages that a new connection gets for users listed before it. */
  presenceJoins: 200,
  /** Errors within a minute that a connection may cause; one more closes it. */
  errorsPerMinute: 100,
  /** Seconds before token expiry at which a connection gets `token_expiring`. */
  tokenExpiryNoticeSeconds: 30,
} as const;

/** Allows 1 to 100 letters, digits and `_ - . :`, not starting with a dot. */
export const CHANNEL_NAME_PATTERN = '^[A-Za-z0-9_:-][A-Za-z0-9_.:-]{0,99}$';

/** The sub-protocol that the server selects. */
export const SUBPROTOCOL = 'goforward.v1';
/** The prefix of the offered sub-protocol that carries a token. */
export const TOKEN_SUBPROTOCOL_PREFIX = 'bearer.';
