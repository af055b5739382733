import type { Counts } from './support/attack.js';
import { attackTest } from './support/attack-test.js';
import { flood } from './support/flood.js';
import {
  enableSlowTable,
  expectStatementsCancelled,
  SLOW_TABLE,
  subscribeMeanwhile,
} from './support/slow-table.js';
import type { Target } from './support/target.js';

const CONNECTIONS = 3;
const PER_SECOND = 60;
/** Fields that the server does not know are part of a message too. */
const BALLAST = 'x'.repeat(60_000);

attackTest({
  name: 'subscribe-flood',
  what: 'one user asks for 180 subscriptions of 60 kB a second behind slow ones, and is cut off',
  schema: SLOW_TABLE,
  maxGrowthMb: 128,
  run: attack,
});

async function attack(target: Target, signal: AbortSignal): Promise<Counts> {
  await enableSlowTable(target);
  const token = await target.token('mallory');
  const message = (ref: number) =>
    `{"type":"subscribe","event":"database_changes","ref":${ref},"payload":{"table":"slow","snapshot":true},"ballast":"${BALLAST}"}`;
  const options = { channel: 'cellar', token, perSecond: PER_SECOND, message };
  const [honest, ...floods] = await Promise.all([
    subscribeMeanwhile(target, signal),
    ...Array.from({ length: CONNECTIONS }, () => flood(target, options, signal)),
  ]);
  await expectStatementsCancelled(target);
  const sent = floods.reduce((sum, each) => sum + each.sent, 0);
  const refused = floods.reduce((sum, each) => sum + each.refused, 0);
  if (refused < sent / 3) throw new Error(`only ${refused} of ${sent} subscriptions were refused`);
  return { sent, refused, honest_ms: honest.slowestMs };
}
