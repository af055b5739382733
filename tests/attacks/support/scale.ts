/** How long an attack lasts, in s. 1 is the short form of `npm test`; `npm run test:attacks` sets more. */
export const ATTACK_SECONDS = Number(process.env.ATTACK_SECONDS ?? 1);

/** Whether latencies are compared: only where nothing else runs beside the attack. */
export const IS_FULL = ATTACK_SECONDS > 1;
