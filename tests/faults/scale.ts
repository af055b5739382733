/**
 * Multiplies the number of faults. 1 is the short form, which `npm test` runs; `npm run test:faults` sets
 * more.
 */
const SCALE = Number(process.env.FAULT_SCALE ?? 1);

/** Whether this is the full form. */
export const IS_FULL = SCALE > 1;

/** The seed of all random choices. */
export const SEED = Number(process.env.FAULT_SEED ?? 1);

/** Returns the timeout of a test, given its timeout in the short form; both in ms. */
export function timeoutOf(shortMs: number): number {
  return shortMs * (1 + 2 * SCALE);
}

/** Repeats a fault `count` times in the short form, and `2 * count * SCALE` times in the full form. */
export async function times(count: number, work: (n: number) => Promise<void>): Promise<void> {
  const rounds = IS_FULL ? 2 * count * SCALE : count;
  for (let n = 0; n < rounds; n++) await work(n);
}
