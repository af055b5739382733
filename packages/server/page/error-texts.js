/**
 * What an error code means for the reader of this page: what failed, and what to do.
 *
 * @type {Readonly<Record<string, readonly [title: string, advice: string]>>}
 */
const ERROR_TEXTS = {
  AUTH_FAILED: [
    'The token was rejected',
    'It is expired or incomplete. Paste a new token and connect again.',
  ],
  PERMISSION_DENIED: ['Permission denied', 'The roles in your token do not allow this.'],
  ORIGIN_NOT_ALLOWED: [
    'This page address is not allowed',
    'Open the page at an allowed address, or add this one to REALTIME_ALLOWED_ORIGINS.',
  ],
  FEATURE_DISABLED: ['This feature is disabled', 'A setting of the server disables it.'],
  TABLE_NOT_ALLOWED: ['This table is not allowed', 'A setting of the server excludes it from row changes.'],
  TABLE_NOT_FOUND: [
    'The table does not exist',
    'Check the name. Write schema.table for a schema other than public.',
  ],
  TRIGGER_NOT_FOUND: ['The table is not enabled', 'It is not enabled for row changes.'],
  SUBSCRIPTION_NOT_FOUND: ['The table is no longer followed', 'Its subscription has ended already.'],
  POLICY_ERROR: [
    'A row level security policy failed',
    'It raises an error for your user. Rows that it fails on are not sent.',
  ],
  DB_SUBSCRIPTION_FAILED: ['The channel cannot follow this table', 'The details below say why.'],
  CHANNEL_EXISTS: ['The channel exists already', 'Use another name.'],
  CHANNEL_NOT_FOUND: [
    'The channel does not exist',
    'Use another channel, or create it with POST /realtime/channels.',
  ],
  NOT_FOUND: ['Not found', 'Check the channel name and the address of the server.'],
  VALIDATION_FAILED: ['The request is invalid', 'Correct the field named below and try again.'],
  INVALID_JSON: ['Invalid JSON', 'It is malformed or nested too deeply.'],
  UNKNOWN_MESSAGE_TYPE: ['Unknown message type', 'Clients cannot send messages of this type.'],
  MESSAGE_TOO_LARGE: ['The message is too large', 'Shorten it and send it again.'],
  RATE_LIMIT_EXCEEDED: ['Too many messages', 'Wait before you send more.'],
  CHANNEL_FULL: ['The channel is full', 'It has reached its connection limit.'],
  CHANNEL_LIMIT_REACHED: ['The channel limit is reached', 'Use an existing channel.'],
  CONNECTION_LIMIT_REACHED: [
    'Too many connections',
    'The limit of the server, your user or your address is reached. Close another connection.',
  ],
  STALE_CONNECTION: ['The connection timed out', 'The server received nothing from this page for too long.'],
  SLOW_CONSUMER: ['This connection is too slow', 'Messages arrived faster than it could receive them.'],
  CHANNEL_CLOSED: ['The channel was closed', 'Connect to another channel.'],
  DATABASE_UNAVAILABLE: ['The database is unavailable', 'Messages still work. Try again later.'],
  INTERNAL: ['Internal server error', 'The server log has the cause.'],
  NO_REPLY: ['The server did not reply', 'The request may or may not have succeeded.'],
  NOT_CONNECTED: ['Not connected', 'Connect first, then try again.'],
  INVALID_TOKEN_TEXT: [
    'This is not a token',
    'A token is three groups of letters and digits, separated by dots. Paste all of it.',
  ],
  INVALID_CHANNEL_NAME: [
    'Invalid channel name',
    'Use 1 to 100 letters, digits and _ - . : and do not start with a dot.',
  ],
  TOKEN_MISSING: ['A token is required', 'Paste one into the token field, then connect.'],
};

/** The texts of close codes that come without an error message. */
const CLOSE_TEXTS = {
  1001: ['The server closed the connection', 'It is shutting down.'],
  1002: ['The connection failed', 'A message violated the WebSocket protocol.'],
  1006: ['The connection was lost', 'The server or the network is down.'],
  1007: ['The connection failed', 'A message was not valid UTF-8.'],
  1009: ['The message is too large', 'The server closed the connection.'],
  1011: ERROR_TEXTS.INTERNAL,
  1012: ['The server is restarting', 'The page reconnects when it is back.'],
  4401: ERROR_TEXTS.AUTH_FAILED,
  4408: ERROR_TEXTS.STALE_CONNECTION,
  4409: ERROR_TEXTS.SLOW_CONSUMER,
  4429: ERROR_TEXTS.RATE_LIMIT_EXCEEDED,
  4430: ERROR_TEXTS.CONNECTION_LIMIT_REACHED,
  4503: ERROR_TEXTS.PERMISSION_DENIED,
  4504: ERROR_TEXTS.CHANNEL_NOT_FOUND,
  4510: ERROR_TEXTS.CHANNEL_CLOSED,
};

/** The token that admin actions need on a server without settings, which prints one. */
export const PRINTED_ADMIN_TOKEN = 'the admin token that the server printed at start';

/**
 * An error object of the wire, or one that this page made.
 *
 * @typedef {{ code: string, error?: string, details?: string, field?: string, feature?: string, reason?: string,
 *   required_permission?: string, retry_after?: number, limit?: number, max_bytes?: number }} Fault
 * @typedef {{ title: string, advice: string, technical: string }} Explanation
 */

/**
 * @param {string} permission
 * @param {boolean} isUnconfigured
 */
function permissionText(permission, isUnconfigured) {
  return permission === 'admin' && isUnconfigured
    ? `This needs ${PRINTED_ADMIN_TOKEN}: paste it into the token field and connect.`
    : `This needs ${permission} permission on the channel.`;
}

/**
 * @param {Fault} fault
 * @param {boolean} isUnconfigured
 */
function detailsOf(fault, isUnconfigured) {
  const parts = [];
  if (fault.required_permission !== undefined)
    parts.push(permissionText(fault.required_permission, isUnconfigured));
  if (fault.code === 'CHANNEL_NOT_FOUND')
    parts.push(`That needs ${isUnconfigured ? PRINTED_ADMIN_TOKEN : 'a server admin token'}.`);
  if (fault.feature !== undefined) parts.push(`Feature: ${fault.feature}.`);
  if (fault.limit !== undefined) parts.push(`The limit is ${fault.limit.toLocaleString()}.`);
  if (fault.max_bytes !== undefined) parts.push(`The maximum is ${fault.max_bytes.toLocaleString()} bytes.`);
  if (fault.retry_after !== undefined) parts.push(`Try again in ${fault.retry_after} s.`);
  if (fault.reason) parts.push(`Reason: ${fault.reason}.`);
  return parts;
}

/**
 * Explains an error to the reader.
 *
 * @param {Fault} fault
 * @param {{ isUnconfigured?: boolean }} [server] a server without settings printed an admin token at start
 * @returns {Explanation}
 */
export function explainFault(fault, { isUnconfigured = false } = {}) {
  const [title, advice] = ERROR_TEXTS[fault.code] ?? ['The request failed', 'The server returned an error.'];
  const technical = [fault.error, fault.field && `field ${fault.field}`, fault.details]
    .filter(Boolean)
    .join(' – ');
  return {
    title,
    advice: [advice, ...detailsOf(fault, isUnconfigured)].join(' '),
    technical: fault.error === undefined ? '' : `${fault.code}: ${technical}`,
  };
}

/**
 * Explains the end of a connection: by the error that came right before it, else by its close code.
 *
 * @param {number} closeCode
 * @param {string} reason
 * @param {Fault | null} fault
 * @returns {Explanation}
 */
export function explainClose(closeCode, reason, fault) {
  if (fault !== null) {
    const explained = explainFault(fault);
    return {
      ...explained,
      technical: [explained.technical, `close code ${closeCode}`].filter(Boolean).join(' – '),
    };
  }
  const [title, advice] = CLOSE_TEXTS[closeCode] ?? ['The connection ended', 'The server closed it.'];
  return { title, advice, technical: `Close code ${closeCode}${reason === '' ? '' : `: ${reason}`}` };
}

/** Shown while the server cannot be reached. */
export const UNREACHABLE = {
  title: 'The server cannot be reached',
  advice: 'It is not running, or the network is down.',
  technical: '',
};
