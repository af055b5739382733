/**
 * What an error code means to the person who reads this page: what happened, and what to do.
 *
 * @type {Readonly<Record<string, readonly [title: string, advice: string]>>}
 */
const ERROR_WORDS = {
  AUTH_FAILED: [
    'The token was not accepted',
    'It may be expired or cut off. Paste a new one and connect again.',
  ],
  PERMISSION_DENIED: [
    'You are not allowed to do this',
    'The roles in your token do not give you this right.',
  ],
  ORIGIN_NOT_ALLOWED: [
    'This address may not be used',
    'Open the page at an address that the server allows, or add it to REALTIME_ALLOWED_ORIGINS.',
  ],
  FEATURE_DISABLED: ['This is turned off', 'A setting of the server has switched this feature off.'],
  TABLE_NOT_ALLOWED: ['This table is off limits', 'The settings of the server do not let it be streamed.'],
  TABLE_NOT_FOUND: ['There is no such table', 'Check its name; a schema goes before it, with a dot.'],
  DB_SUBSCRIPTION_FAILED: [
    'The channel could not be subscribed to this table',
    'What is wrong is named below.',
  ],
  CHANNEL_NOT_FOUND: [
    'There is no such channel',
    'It was deleted, or never made. Choose another one, or create it through the API.',
  ],
  NOT_FOUND: ['There is nothing at this address', 'Check the channel name and the address of the server.'],
  VALIDATION_FAILED: [
    'The server did not understand a part of that',
    'Correct what is named below and try again.',
  ],
  INVALID_JSON: ['That was not valid JSON', 'It is malformed or nested too deep.'],
  UNKNOWN_MESSAGE_TYPE: ['The server does not know this kind of message', 'Clients cannot send this type.'],
  MESSAGE_TOO_LARGE: ['That message is too large', 'Make it shorter and send it again.'],
  RATE_LIMIT_EXCEEDED: ['That was too fast', 'The server asks you to slow down.'],
  CHANNEL_FULL: ['The channel is full', 'It has as many connections as it may have.'],
  CHANNEL_LIMIT_REACHED: ['The server has no room for another channel', 'Use a channel that exists.'],
  CONNECTION_LIMIT_REACHED: [
    'Too many connections',
    'The server, your user or your address has as many as it may have. Close some of them.',
  ],
  STALE_CONNECTION: ['The server lost sight of you', 'Nothing was heard from this page for too long.'],
  SLOW_CONSUMER: [
    'This page could not keep up',
    'Messages came faster than your connection could take them.',
  ],
  CHANNEL_CLOSED: ['The channel was closed', 'Choose another channel to go on.'],
  DATABASE_UNAVAILABLE: [
    'The database cannot be reached',
    'Chatting goes on; what needs the database has to wait.',
  ],
  INTERNAL: ['The server made a mistake', 'It is not your fault. The server’s log has the cause.'],
  NO_REPLY: ['The server did not answer', 'It is not certain that your message arrived.'],
  NOT_CONNECTED: ['You are not connected', 'Connect first, then send again.'],
  INVALID_TOKEN_TEXT: [
    'This does not look like a token',
    'A token is three groups of letters and digits with dots between them. Paste all of it.',
  ],
  INVALID_CHANNEL_NAME: [
    'This channel name cannot be used',
    'Use 1 to 100 letters, digits and _ - . : and do not start with a dot.',
  ],
  TOKEN_MISSING: ['A token is needed', 'Paste one into the token field, then connect.'],
};

/** The same for close codes that come without an error before them. */
const CLOSE_WORDS = {
  1001: ['The server is going away', 'The connection was closed from the other side.'],
  1002: ['The connection broke', 'One side sent what the WebSocket protocol does not allow.'],
  1006: ['The connection was lost', 'The server or the network went away without a word.'],
  1007: ['The connection broke', 'A text was not valid UTF-8.'],
  1009: ['That message is too large', 'The server closes a connection that sends more than it may.'],
  1011: ERROR_WORDS.INTERNAL,
  1012: ['The server is restarting', 'It will be back in a moment.'],
  4401: ERROR_WORDS.AUTH_FAILED,
  4408: ERROR_WORDS.STALE_CONNECTION,
  4409: ERROR_WORDS.SLOW_CONSUMER,
  4429: ERROR_WORDS.RATE_LIMIT_EXCEEDED,
  4430: ERROR_WORDS.CONNECTION_LIMIT_REACHED,
  4503: ERROR_WORDS.PERMISSION_DENIED,
  4504: ERROR_WORDS.CHANNEL_NOT_FOUND,
  4510: ERROR_WORDS.CHANNEL_CLOSED,
};

/**
 * A fault is the error object of the wire, or one that this page made itself.
 *
 * @typedef {{ code: string, error?: string, details?: string, field?: string, feature?: string, reason?: string,
 *   required_permission?: string, retry_after?: number, limit?: number, max_bytes?: number }} Fault
 * @typedef {{ title: string, advice: string, technical: string }} Explanation
 */

/** @param {Fault} fault */
function particulars(fault) {
  const parts = [];
  if (fault.required_permission !== undefined)
    parts.push(`You need the right to ${fault.required_permission}.`);
  if (fault.feature !== undefined) parts.push(`Feature: ${fault.feature}.`);
  if (fault.limit !== undefined) parts.push(`The limit is ${fault.limit.toLocaleString()}.`);
  if (fault.max_bytes !== undefined)
    parts.push(`At most ${fault.max_bytes.toLocaleString()} bytes are allowed.`);
  if (fault.retry_after !== undefined) parts.push(`Wait ${fault.retry_after} s.`);
  if (fault.reason) parts.push(`Reason given: ${fault.reason}.`);
  return parts;
}

/**
 * A fault in words.
 *
 * @param {Fault} fault
 * @returns {Explanation}
 */
export function explainFault(fault) {
  const [title, advice] = ERROR_WORDS[fault.code] ?? [
    'Something went wrong',
    'The server answered with an error.',
  ];
  const technical = [fault.error, fault.field && `field ${fault.field}`, fault.details]
    .filter(Boolean)
    .join(' – ');
  return {
    title,
    advice: [advice, ...particulars(fault)].join(' '),
    technical: fault.error === undefined ? '' : `${fault.code}: ${technical}`,
  };
}

/**
 * The end of a connection in words. The fault that came right before it says more than the code does.
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
  const [title, advice] = CLOSE_WORDS[closeCode] ?? ['The connection ended', 'The server closed it.'];
  return { title, advice, technical: `Close code ${closeCode}${reason === '' ? '' : `: ${reason}`}` };
}

/** What is said while the server cannot be reached at all. */
export const UNREACHABLE = {
  title: 'The server cannot be reached',
  advice: 'It is not running, or the network is down.',
  technical: '',
};
