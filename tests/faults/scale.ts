/** How many times the faults of the short form: `npm run test:faults` sets it. 1 is what `npm test` has time for. */
const SCALE = Number(process.env.FAULT_SCALE ?? 1);

/** Whether this is the full form. */
export const IS_FULL = SCALE > 1;

/** The seed of all random choices. */
export const SEED = Number(process.env.FAULT_SEED ?? 1);

/** How long a test may take that takes so long in the short form, in ms. */
export function patienceOf(shortMs: number): number {
  return shortMs * (1 + 2 * SCALE);
}

/** Repeats a fault: so many times in the short form, in the full one twice as often and so many times more. */
export async function times(count: number, work: (n: number) => Promise<void>): Promise<void> {
  const rounds = IS_FULL ? 2 * count * SCALE : count;
  for (let n = 0; n < rounds; n++) await work(n);
}
