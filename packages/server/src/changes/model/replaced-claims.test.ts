import { expect, test } from 'vitest';
import { silentLog } from '../../lib/log.js';
import { ReplacedClaims } from './replaced-claims.js';

function reporting() {
  const logged: unknown[] = [];
  const counters = { claimsReplaced: 0 };
  const log = { ...silentLog, warn: ({ claim }: Record<string, unknown>) => logged.push(claim) };
  return { claims: new ReplacedClaims(log, counters), counters, logged };
}

test('each claim is counted, and its name logged once, in quotes and cut', () => {
  const { claims, counters, logged } = reporting();
  claims.report(['note', 'a\0\nb']);
  claims.report(['note', 'x'.repeat(10_000)]);
  expect(counters.claimsReplaced).toBe(4);
  expect(logged).toEqual(['"note"', '"a\\u0000\\nb"', `"${'x'.repeat(100)}…"`]);
});

test('however many names users think up, the log has a hundred lines', () => {
  const { claims, counters, logged } = reporting();
  for (let n = 0; n < 1_000; n++) claims.report([`claim ${n}`]);
  expect([counters.claimsReplaced, logged.length]).toEqual([1_000, 100]);
});
