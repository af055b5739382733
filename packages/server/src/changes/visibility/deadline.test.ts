import { setImmediate as yieldToEventLoop } from 'node:timers/promises';
import { ProtocolError } from '@goforward/realtime-protocol';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { StaleFacts } from './authorizer.js';
import { Deadline, NotDecided } from './deadline.js';

let now: number;
beforeEach(() => {
  now = 0;
  vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout'] });
});
afterEach(() => vi.useRealTimers());

function advance(ms: number): Promise<unknown> {
  now += ms;
  return vi.advanceTimersByTimeAsync(ms);
}

const never = new Promise<never>(() => undefined);

describe('a deadline', () => {
  it('begins with the first question, and all questions share it', async () => {
    const deadline = new Deadline(100, () => now);
    await advance(1_000);
    expect(deadline.isOver).toBe(false);
    const first = deadline.within(never);
    first.catch(() => undefined);
    await advance(60);
    const second = deadline.within(never);
    second.catch(() => undefined);
    expect(await deadline.within(Promise.resolve('known'))).toBe('known');
    await advance(40);
    await expect(first).rejects.toBeInstanceOf(NotDecided);
    await expect(second).rejects.toBeInstanceOf(NotDecided);
    expect(deadline.isOver).toBe(true);
  });

  it('lets what is known already through when it is over, and waits for nothing else', async () => {
    const deadline = new Deadline(100, () => now);
    await deadline.within(Promise.resolve());
    await advance(200);
    expect(await deadline.within(Promise.resolve('known'))).toBe('known');
    await expect(deadline.within(never)).rejects.toBeInstanceOf(NotDecided);
  });

  it('passes errors on, and leaves no timer behind', async () => {
    const deadline = new Deadline(100, () => now);
    await expect(deadline.within(Promise.reject(new Error('broken')))).rejects.toThrow('broken');
    await yieldToEventLoop();
    expect(vi.getTimerCount()).toBe(0);
  });

  it('excuses what is tried again only when the time for that is over, and never another error', async () => {
    const deadline = new Deadline(100, () => now);
    expect(deadline.excuses(new StaleFacts())).toBe(false);
    await advance(100);
    expect(deadline.excuses(new StaleFacts())).toBe(true);
    expect(deadline.excuses(new ProtocolError('DATABASE_UNAVAILABLE'))).toBe(false);
    expect(deadline.excuses(new Error('a mistake'))).toBe(false);
    expect(deadline.excuses(new NotDecided())).toBe(true);
  });
});
