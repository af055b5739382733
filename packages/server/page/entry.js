import { make } from './elements.js';
import { explainFault } from './error-texts.js';
import { clockTime, hueClass, shortName } from './format.js';

const LONGEST_PREVIEW = 400;

/**
 * @typedef {import('./connection.js').Message} Message
 * @typedef {object} Reader the user of this page
 * @property {string} userId
 * @property {string} joinedAt timestamp of `connected`: users seen before it were already in the channel
 */

/** Returns the filter group of a message type. */
function groupOf(type) {
  if (type === 'presence') return 'presence';
  if (type === 'database_change') return 'rows';
  return type === 'system' || type === 'local' ? 'system' : 'message';
}

/** Returns a text of this page in the shape of a message, for the list. */
export function localNote(text) {
  return {
    id: '',
    type: 'local',
    event: 'note',
    payload: { text },
    user_id: '',
    timestamp: new Date().toISOString(),
  };
}

/**
 * Formats JSON on one line, with spaces where it can wrap.
 *
 * @param {unknown} payload
 */
function preview(payload) {
  const text = JSON.stringify(payload, null, 1).replaceAll(/\n */g, ' ');
  return text.length > LONGEST_PREVIEW ? `${text.slice(0, LONGEST_PREVIEW)}…` : text;
}

/** Returns the chat text of a payload; null when it has none. */
function chatText(payload) {
  if (typeof payload === 'string') return payload;
  for (const key of ['message', 'text', 'content']) {
    if (typeof payload?.[key] === 'string') return payload[key];
  }
  return null;
}

/**
 * @param {Message} message
 * @param {Reader} reader
 */
function presenceText({ event, payload }, reader) {
  if (event === 'diff') {
    const count = (key) => Object.keys(payload[key] ?? {}).length;
    return `${count('joins')} joined, ${count('leaves')} left, ${count('updates')} changed`;
  }
  const state = payload.state ?? {};
  if (event === 'leave') return 'left';
  if (event === 'join') {
    const wasHere = payload.user_id !== reader.userId && state.last_seen < reader.joinedAt;
    return wasHere ? 'is here' : 'joined';
  }
  const status = typeof state.status === 'string' ? `is ${state.status}` : 'changed';
  return typeof state.custom_message === 'string' ? `${status}: ${state.custom_message}` : status;
}

/** @param {Message} message */
function systemText({ event, payload }) {
  switch (event) {
    case 'connected': {
      const count =
        payload.subscriber_count === 1 ? '1 connection' : `${payload.subscriber_count} connections`;
      return `Connected to ${payload.channel} (${count})`;
    }
    case 'error':
      return explainFault(payload).title;
    case 'channel_closed':
      return `The channel was closed${payload.reason ? `: ${payload.reason}` : ''}`;
    case 'token_expiring':
      return `Your token expires at ${clockTime(payload.expires_at)}`;
    case 'gap':
      return `Some ${payload.scope} were missed. Load the data again.`;
    case 'database_down':
      return 'The database is unavailable. Messages still work.';
    case 'database_up':
      return 'The database is available again';
    case 'note':
      return payload.text;
    default:
      return preview(payload);
  }
}

/** @param {Message} message */
function changeOf({ payload }) {
  const { event, schema, table, new_record, old_record, visibility } = payload.change;
  const name = schema === 'public' ? table : `${schema}.${table}`;
  const suffix = visibility === undefined ? '' : ` (${visibility})`;
  const record = new_record ?? old_record;
  const parts = [
    make('span', { className: 'change', text: event }),
    make('span', { className: 'summary', text: `${name}${suffix}` }),
  ];
  return record === null || record === undefined
    ? parts
    : [...parts, make('code', { className: 'data', text: preview(record) })];
}

/**
 * @param {string} userId
 * @param {Reader} reader
 */
function nameOf(userId, reader) {
  const own = userId === reader.userId;
  const name = make('span', { className: `who ${hueClass(userId)}`, text: shortName(userId), title: userId });
  if (!own) return [name];
  return [name, make('span', { className: 'you', text: 'you' })];
}

/**
 * @param {Message} message
 * @param {Reader} reader
 */
function contentOf(message, reader) {
  const group = groupOf(message.type);
  if (group === 'system') return [make('span', { className: 'summary', text: systemText(message) })];
  if (group === 'rows') return changeOf(message);
  if (group === 'presence') {
    const who = message.event === 'diff' ? [] : nameOf(message.payload.user_id, reader);
    return [...who, make('span', { className: 'summary', text: presenceText(message, reader) })];
  }
  const text = chatText(message.payload);
  const body =
    text === null
      ? make('code', { className: 'data', text: preview(message.payload) })
      : make('p', { className: 'text', text });
  return [...nameOf(message.user_id, reader), body];
}

/** The button that expands an entry to the whole message. */
function rawToggle(message, item) {
  const label = `${message.type} · ${message.event}`;
  const words = make('span', { className: 'tag-words', text: label });
  const button = make('button', { className: 'tag', title: 'Show the whole message' }, words);
  button.type = 'button';
  button.setAttribute('aria-expanded', 'false');
  button.addEventListener('click', () => {
    const open = item.querySelector('pre');
    button.setAttribute('aria-expanded', String(open === null));
    if (open !== null) return open.remove();
    item.append(make('pre', { className: 'raw', text: JSON.stringify(message, null, 2) }));
    item.scrollIntoView({ block: 'nearest' });
  });
  return button;
}

/**
 * Returns the list item of a message: time, user and content, and a button that shows the whole message.
 *
 * @param {Message} message
 * @param {Reader} reader
 * @returns {HTMLLIElement}
 */
export function entryOf(message, reader) {
  const item = make('li');
  item.dataset.type = message.type;
  item.dataset.group = groupOf(message.type);
  if (message.type === 'system' && message.event === 'error') item.classList.add('failed');
  const time = make('time', {
    className: 'time',
    text: clockTime(message.timestamp),
    title: message.timestamp,
  });
  time.dateTime = message.timestamp;
  item.append(time, make('div', { className: 'content' }, ...contentOf(message, reader)));
  if (message.type !== 'local') item.append(rawToggle(message, item));
  return item;
}
