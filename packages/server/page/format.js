const UUID = /^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/i;
const HUES = 8;
const CLOCK = new Intl.DateTimeFormat([], {
  hour: '2-digit',
  minute: '2-digit',
  second: '2-digit',
  hourCycle: 'h23',
});

/**
 * Shortens a user id: the first group of a UUID, or the first characters of a long id.
 *
 * @param {string} userId
 */
export function shortName(userId) {
  if (UUID.test(userId)) return userId.slice(0, 8);
  return userId.length > 24 ? `${userId.slice(0, 23)}…` : userId;
}

/**
 * Returns the class of a user's colour.
 *
 * @param {string} userId
 */
export function hueClass(userId) {
  let hash = 0;
  for (const character of userId) hash = (hash * 31 + (character.codePointAt(0) ?? 0)) >>> 0;
  return `hue-${hash % HUES}`;
}

/**
 * Formats a timestamp as hours, minutes and seconds in the local time zone.
 *
 * @param {string | number} timestamp
 */
export function clockTime(timestamp) {
  const date = new Date(timestamp);
  return Number.isNaN(date.getTime()) ? '–' : CLOCK.format(date);
}

/**
 * Formats how long ago a timestamp was.
 *
 * @param {string} timestamp
 * @param {number} now milliseconds since the epoch
 */
export function timeAgo(timestamp, now) {
  const seconds = Math.round((now - Date.parse(timestamp)) / 1000);
  if (Number.isNaN(seconds)) return '';
  if (seconds < 45) return 'now';
  if (seconds < 3600) return `${Math.max(1, Math.round(seconds / 60))} min ago`;
  if (seconds < 86_400) return `${Math.round(seconds / 3600)} h ago`;
  return `${Math.round(seconds / 86_400)} d ago`;
}
