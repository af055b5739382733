import { vi } from 'vitest';

/** Repeats `check` until it no longer throws and returns its result; fails with its last error after `ms`. */
export function eventually<T>(check: () => T | Promise<T>, ms = 5_000): Promise<T> {
  return vi.waitFor(check, { timeout: ms, interval: 20 });
}
