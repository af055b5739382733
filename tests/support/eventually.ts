import { vi } from 'vitest';

/** Repeats `look` until it no longer throws, and answers what it answered; fails with its last error after `ms`. */
export function eventually<T>(look: () => T | Promise<T>, ms = 5_000): Promise<T> {
  return vi.waitFor(look, { timeout: ms, interval: 20 });
}
