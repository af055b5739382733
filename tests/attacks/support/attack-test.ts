import { appendFileSync } from 'node:fs';
import { constants, setPriority } from 'node:os';
import { setTimeout as delay } from 'node:timers/promises';
import { expect, test } from 'vitest';
import { Arena } from './arena.js';
import type { Attack, Counts } from './attack.js';
import { ATTACK_SECONDS, IS_FULL } from './scale.js';
import type { VictimReport } from './victim-entry.js';

/** An attack and what it did, for the report of `npm run test:attacks`. */
interface AttackResult {
  readonly name: string;
  readonly what: string;
  readonly counts: Counts;
  readonly victim: VictimReport;
  /** Of the server's process, in MB: before the attack, and the most during and after it. */
  readonly memory: { readonly before: number; readonly peak: number };
}

const MEMORY_INTERVAL_MS = 100;
const MAX_GROWTH_MB = 256;
/** The longest that the victim may wait for anything, in ms; the machine may run other tests beside this one. */
const MAX_WAIT_MS = 3_000;
/** How much slower the victim's p99 may become, and from which latency in ms this is compared. */
const MAX_RATIO = 5;
const MIN_COMPARED_MS = 5;
/** How long the victim is observed before and after the attack, in ms. */
const CALM_MS = IS_FULL ? 10_000 : 1_000;

/**
 * Defines the test of an attack: a victim pings, chats, writes rows and calls `/healthz` before, during and after it. The
 * server must stay alive, log no error, answer the victim everything once, and keep its memory bounded. In the full form
 * the victim's p99 of pings and row changes may be at most five times as long as before.
 */
export function attackTest(attack: Attack): void {
  test(
    `nobody else is hurt: ${attack.what}`,
    async () => {
      const result = await resultOf(attack);
      const file = process.env.ATTACK_REPORT;
      if (file !== undefined) appendFileSync(file, `${JSON.stringify(result)}\n`);
      expectUnharmed(result, attack.maxGrowthMb ?? MAX_GROWTH_MB);
    },
    90_000 + ATTACK_SECONDS * 3_000,
  );
}

async function resultOf(attack: Attack): Promise<AttackResult> {
  const arena = await Arena.open(attack);
  try {
    const { victim, target } = arena;
    victim.begin('before');
    await delay(CALM_MS);
    const before = await arena.memory();
    // An attacker has a machine of its own. Here it takes what server, PostgreSQL and victim leave of the cores. An
    // ordinary user cannot undo this, so that it is left out where other tests follow.
    if (IS_FULL) setPriority(constants.priority.PRIORITY_LOW);
    victim.begin('during');
    const watching = new AbortController();
    const peak = peakMemory(arena, watching.signal);
    const counts = await attack.run(target, AbortSignal.timeout(ATTACK_SECONDS * 1000));
    victim.begin('after');
    await delay(CALM_MS);
    const report = await victim.stop();
    watching.abort();
    expect(arena.problemsInLog()).toEqual([]);
    const memory = { before, peak: await peak };
    return { name: attack.name, what: attack.what, counts, victim: report, memory };
  } finally {
    await arena.close();
  }
}

async function peakMemory(arena: Arena, signal: AbortSignal): Promise<number> {
  let peak = 0;
  while (!signal.aborted) {
    // Without a process there is no memory, and the victim reports it.
    peak = Math.max(peak, await arena.memory().catch(() => 0));
    await delay(MEMORY_INTERVAL_MS, undefined, { signal }).catch(() => undefined);
  }
  return peak;
}

function expectUnharmed({ victim, memory }: AttackResult, maxGrowthMb: number): void {
  expect(victim.problems).toEqual([]);
  expect(memory.peak - memory.before).toBeLessThan(maxGrowthMb);
  const { before, during, after } = victim.phases;
  if (before === undefined || during === undefined || after === undefined)
    throw new Error('a phase is missing');
  for (const { ping, message, change, http } of [during, after]) {
    expect(Math.max(ping.max, message.max, change.max, http.max)).toBeLessThan(MAX_WAIT_MS);
  }
  if (!IS_FULL) return;
  for (const activity of ['ping', 'change'] as const) {
    const own = Math.max(before[activity].p99, MIN_COMPARED_MS);
    expect({ activity, ratio: during[activity].p99 / own }).toEqual({
      activity,
      ratio: expect.toSatisfy((ratio: number) => ratio <= MAX_RATIO),
    });
  }
}
