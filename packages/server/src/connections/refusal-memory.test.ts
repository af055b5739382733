import fc from 'fast-check';
import { beforeEach, describe, expect, it } from 'vitest';
import { RefusalMemory } from './refusal-memory.js';

const MINUTE = 60_000;
let now: number;
let memory: RefusalMemory;

beforeEach(() => {
  now = 1_000_000;
  memory = new RefusalMemory(() => now);
});

const refuse = (times: number, credential = 'token', address = '192.0.2.1') =>
  Array.from({ length: times }, () => memory.refuse(credential, address));

describe('refusals', () => {
  it('are readable three times, then an HTTP status', () => {
    expect(refuse(5)).toEqual(['readable', 'readable', 'readable', 'status', 'status']);
  });

  it('are counted per credential and address', () => {
    refuse(3);
    expect(refuse(1, 'another token')).toEqual(['readable']);
    expect(refuse(1, 'token', '192.0.2.2')).toEqual(['readable']);
    expect(refuse(1, '1\ntoken', '192.0.2.')).toEqual(['readable']);
    expect(refuse(1)).toEqual(['status']);
  });

  it('stay an HTTP status for a client that keeps trying, and are readable after five minutes without one', () => {
    refuse(3);
    for (let n = 0; n < 20; n++) {
      now += 5 * MINUTE - 1;
      expect(refuse(1)).toEqual(['status']);
    }
    now += 5 * MINUTE;
    expect(refuse(4)).toEqual(['readable', 'readable', 'readable', 'status']);
  });

  it('match a naive model for any sequence of refusals', () => {
    const visit = fc.record({ key: fc.nat({ max: 3 }), after: fc.nat({ max: 6 * MINUTE }) });
    fc.assert(
      fc.property(fc.array(visit, { maxLength: 60, size: 'max' }), (visits) => {
        const fresh = new RefusalMemory(() => now);
        const model = new Map<number, { count: number; last: number }>();
        for (const { key, after } of visits) {
          now += after;
          const before = model.get(key);
          const count = before !== undefined && now - before.last < 5 * MINUTE ? before.count + 1 : 1;
          model.set(key, { count, last: now });
          expect(fresh.refuse(`token ${key}`, 'address')).toBe(count <= 3 ? 'readable' : 'status');
        }
      }),
    );
  });

  it('are forgotten after five minutes, and the oldest first when there are too many', () => {
    for (let n = 0; n < 30_000; n++) refuse(1, `token ${n}`);
    expect(memory.size).toBeLessThanOrEqual(20_000);
    expect(refuse(3, 'token 29999')).toEqual(['readable', 'readable', 'status']);
    now += 5 * MINUTE;
    refuse(1);
    expect(memory.size).toBe(1);
  });
});
