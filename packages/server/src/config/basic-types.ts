import { formatDuration, MAX_DURATION_MS, parseDuration } from '../lib/duration.js';
import { formatSize, parseSize } from '../lib/size.js';
import type { Rate } from '../lib/token-bucket.js';
import { listType, type SettingType, settingType } from './setting-type.js';

const TRUE = ['true', '1', 'yes', 'on'];
const FALSE = ['false', '0', 'no', 'off'];

/** Zero in any unit. */
const ZERO = /^0+(?:ms|[smhd])$/;

const RATE = /^(\d+(?:\.\d{1,3})?)\/s(?:\s*,\s*burst\s+(\d+))?$/;
const MAX_RATE = 1_000_000;

/** Bounds of a number, both inclusive. */
interface Bounds {
  readonly min: number;
  readonly max?: number;
}

/** A whole number. */
export function integer({ min, max }: Bounds): SettingType<number> {
  return settingType({
    expects: max === undefined ? `a whole number of at least ${min}` : `a whole number from ${min} to ${max}`,
    placeholder: 'number',
    read: (text) =>
      within(/^\d+$/.test(text) ? Number(text) : undefined, { min, max: max ?? Number.MAX_SAFE_INTEGER }),
  });
}

/** A switch: true, 1, yes, on; or false, 0, no, off. */
export function boolean(): SettingType<boolean> {
  return settingType({
    expects: 'true or false',
    placeholder: 'true|false',
    read: (text) => {
      const word = text.toLowerCase();
      if (TRUE.includes(word)) return true;
      return FALSE.includes(word) ? false : undefined;
    },
  });
}

/** A duration in ms, above zero unless zero is allowed. */
export function duration(
  max: number = MAX_DURATION_MS,
  { allowZero = false }: { readonly allowZero?: boolean } = {},
): SettingType<number> {
  const bounds = allowZero ? 'from 0s to' : 'above zero and up to';
  return settingType({
    expects: `a duration such as 30s, ${bounds} ${formatDuration(max)}`,
    placeholder: 'duration',
    read: (text) => (allowZero && ZERO.test(text) ? 0 : within(parseDuration(text), { min: 1, max })),
    show: formatDuration,
  });
}

/** A size in bytes. */
export function size({ min, max }: Required<Bounds>): SettingType<number> {
  return settingType({
    expects: `a size such as 64KB, from ${formatSize(min)} to ${formatSize(max)}`,
    placeholder: 'size',
    read: (text) => within(parseSize(text), { min, max }),
    show: formatSize,
  });
}

/** A rate per second, with a burst. Default burst: the rate, rounded up. */
export function rate(): SettingType<Rate> {
  return settingType({
    expects: `a rate such as "50/s" or "50/s, burst 200", above zero and up to ${MAX_RATE}`,
    placeholder: 'rate',
    read: (text) => {
      const [, amount, burstText] = RATE.exec(text) ?? [];
      if (amount === undefined) return undefined;
      const perSecond = Number(amount);
      const burst = burstText === undefined ? Math.max(1, Math.ceil(perSecond)) : Number(burstText);
      const fits = perSecond > 0 && perSecond <= MAX_RATE && burst >= 1 && burst <= MAX_RATE;
      return fits ? { perSecond, burst } : undefined;
    },
    show: ({ perSecond, burst }) => `${perSecond}/s, burst ${burst}`,
  });
}

/** One of the given words. */
export function choice<const Word extends string>(
  words: readonly Word[],
  placeholder: string,
): SettingType<Word> {
  return settingType({
    expects: `one of ${words.join(', ')}`,
    placeholder,
    read: (text) => words.find((word) => word === text.toLowerCase()),
  });
}

/** A text of at least one character. */
export function text(expects: string, placeholder: string): SettingType<string> {
  return settingType({
    expects,
    placeholder,
    read: (given) => (given === '' || given.includes('\0') ? undefined : given),
  });
}

/** The name of a replication slot (PostgreSQL manual, 26.2.6.1). */
export function slotName(): SettingType<string> {
  return settingType({
    expects: '1 to 63 lower-case letters, digits and underscores',
    placeholder: 'name',
    read: (given) => (/^[a-z0-9_]{1,63}$/.test(given) ? given : undefined),
  });
}

/** A list of names. */
export function names(expects: string): SettingType<readonly string[]> {
  return listType({ expects, placeholder: 'list', read: (name) => name });
}

function within(value: number | undefined, { min, max }: Required<Bounds>): number | undefined {
  return value !== undefined && value >= min && value <= max ? value : undefined;
}
