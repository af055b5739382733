const UNITS = [
  ['d', 86_400_000],
  ['h', 3_600_000],
  ['m', 60_000],
  ['s', 1_000],
  ['ms', 1],
] as const;

const PATTERN = /^(?:(\d+)d)?(?:(\d+)h)?(?:(\d+)m)?(?:(\d+)s)?(?:(\d+)ms)?$/;

/** The longest duration that `parseDuration` accepts: 365 days, in ms. */
export const MAX_DURATION_MS = 365 * 86_400_000;

/**
 * Parses `500ms`, `30s`, `5m`, `24h`, `7d`, or several units from large to small (`1h30m`), into
 * milliseconds. Returns undefined for any other text, the empty text, zero, and more than 365 days.
 */
export function parseDuration(text: string): number | undefined {
  const counts = PATTERN.exec(text)?.slice(1);
  if (counts === undefined) return undefined;
  const ms = UNITS.reduce((sum, [, unit], index) => sum + Number(counts[index] ?? 0) * unit, 0);
  return ms > 0 && ms <= MAX_DURATION_MS ? ms : undefined;
}

/** Formats a whole number of ms as the shortest text that `parseDuration` reads back: `1h30m`. Zero is `0s`. */
export function formatDuration(ms: number): string {
  let text = '';
  let rest = ms;
  for (const [name, unit] of UNITS) {
    const count = Math.floor(rest / unit);
    if (count > 0) text += `${count}${name}`;
    rest -= count * unit;
  }
  return text === '' ? '0s' : text;
}
