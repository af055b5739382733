import { expect, test } from 'vitest';
import { silentLog } from './log.js';
import { RateLimitedLog } from './rate-limited-log.js';

function recorded() {
  const lines: [string, Record<string, unknown>][] = [];
  let now = 1_000;
  const log = new RateLimitedLog<'one' | 'two'>(
    { ...silentLog, info: (fields, message) => void lines.push([message, fields]) },
    () => now,
  );
  return { lines, log, pass: (ms: number) => (now += ms) };
}

test('a cause is logged once in ten seconds, and its next line has the number of suppressed ones', () => {
  const { lines, log, pass } = recorded();
  for (let n = 0; n < 5; n++) log.info('one', { n }, 'refused');
  pass(9_999);
  log.info('one', { n: 5 }, 'refused');
  expect(lines).toEqual([['refused', { n: 0 }]]);
  pass(1);
  log.info('one', { n: 6 }, 'refused');
  pass(10_000);
  log.info('one', { n: 7 }, 'refused');
  expect(lines.slice(1)).toEqual([
    ['refused', { n: 6, suppressed: 5 }],
    ['refused', { n: 7 }],
  ]);
});

test('each cause has a limit of its own', () => {
  const { lines, log } = recorded();
  log.info('one', {}, 'first');
  log.info('two', {}, 'second');
  log.info('one', {}, 'third');
  expect(lines.map(([message]) => message)).toEqual(['first', 'second']);
});
