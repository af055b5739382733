import type { Counts } from './support/attack.js';
import { attackTest } from './support/attack-test.js';
import { flood } from './support/flood.js';
import { CHANNEL, type Target } from './support/target.js';

const CONNECTIONS = 3;
const PER_SECOND = 60;

attackTest({
  name: 'refresh-flood',
  what: 'one user renews its token 180 times a second, with 20 kB of claims that differ each time',
  run: attack,
});

async function attack(target: Target, signal: AbortSignal): Promise<Counts> {
  const claims = { user_id: 'mallory', role: 'user' };
  const token = await target.sign(claims);
  const tokens = await Promise.all(
    Array.from({ length: 20 }, (_, n) => target.sign({ ...claims, n, large: 'x'.repeat(20_000) })),
  );
  const message = (ref: number) =>
    `{"type":"auth","event":"refresh","ref":${ref},"payload":{"token":"${tokens[ref % tokens.length]}"}}`;
  const options = { channel: CHANNEL, token, perSecond: PER_SECOND, message };
  const floods = await Promise.all(Array.from({ length: CONNECTIONS }, () => flood(target, options, signal)));
  const sent = floods.reduce((sum, each) => sum + each.sent, 0);
  const refused = floods.reduce((sum, each) => sum + each.refused, 0);
  if (refused < sent / 3) throw new Error(`only ${refused} of ${sent} refreshes were refused`);
  return { sent, refused };
}
