const UNITS = { B: 1, KB: 1024, MB: 1024 ** 2, GB: 1024 ** 3 } as const;

const PATTERN = /^(\d+)(B|KB|MB|GB)?$/;

/** Parses `64KB`, `1MB`, `2GB`, `512B` or `512`; a KB is 1024 bytes. Undefined for other text. */
export function parseSize(text: string): number | undefined {
  const [, count, unit = 'B'] = PATTERN.exec(text.toUpperCase()) ?? [];
  if (count === undefined) return undefined;
  const bytes = Number(count) * UNITS[unit as keyof typeof UNITS];
  return Number.isSafeInteger(bytes) ? bytes : undefined;
}

/** Formats bytes in the largest unit that divides them, as `parseSize` reads it back: `64KB`, `1500B`. */
export function formatSize(bytes: number): string {
  for (const unit of ['GB', 'MB', 'KB'] as const) {
    if (bytes > 0 && bytes % UNITS[unit] === 0) return `${bytes / UNITS[unit]}${unit}`;
  }
  return `${bytes}B`;
}
