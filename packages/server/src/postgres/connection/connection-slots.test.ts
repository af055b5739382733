import fc from 'fast-check';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { ConnectionSlots } from './connection-slots.js';
import { PoolExhausted } from './statement-options.js';

const WAIT_MS = 1_000;
const GONE = new Error('nobody waits for this');

beforeEach(() => {
  vi.useFakeTimers();
});

afterEach(() => {
  vi.useRealTimers();
});

/** What callers do, one after the other. */
const steps = fc.array(
  fc.oneof(
    { weight: 4, arbitrary: fc.constant('acquire' as const) },
    { weight: 3, arbitrary: fc.constant('release' as const) },
    { weight: 1, arbitrary: fc.constant('abort' as const) },
    { weight: 1, arbitrary: fc.constant('time' as const) },
  ),
  { maxLength: 60 },
);

/** A caller, and whether it has a slot, was refused, or still waits. */
interface Caller {
  readonly gone: AbortController;
  state: 'waiting' | 'using' | 'refused' | 'gone' | 'done';
}

describe('connection slots', () => {
  it('never give out more than there are, and give a free one to whoever has waited longest', () =>
    fc.assert(
      fc.asyncProperty(
        fc.integer({ min: 1, max: 3 }),
        fc.integer({ min: 0, max: 4 }),
        steps,
        async (connections, waiting, todo) => {
          const slots = new ConnectionSlots({ connections, waiting, waitMs: WAIT_MS });
          const callers: Caller[] = [];
          const inState = (state: Caller['state']) => callers.filter((caller) => caller.state === state);
          for (const step of todo) {
            const queued = inState('waiting');
            const [first] = queued;
            if (step === 'acquire') {
              const caller: Caller = { gone: new AbortController(), state: 'waiting' };
              callers.push(caller);
              slots.acquire(caller.gone.signal).then(
                () => {
                  caller.state = 'using';
                },
                (error: unknown) => {
                  caller.state = error instanceof PoolExhausted ? 'refused' : 'gone';
                },
              );
            } else if (step === 'release') {
              const [user] = inState('using');
              if (user === undefined) continue;
              user.state = 'done';
              slots.release();
            } else if (step === 'abort') queued.at(-1)?.gone.abort(GONE);
            else vi.advanceTimersByTime(WAIT_MS);
            await vi.advanceTimersByTimeAsync(0);
            expect(slots.inUse).toBe(inState('using').length);
            expect(slots.inUse).toBeLessThanOrEqual(connections);
            expect(inState('waiting').length).toBeLessThanOrEqual(waiting);
            // Nobody waits beside a free slot.
            if (slots.inUse < connections) expect(inState('waiting')).toEqual([]);
            if (step === 'release' && first !== undefined) expect(first.state).toBe('using');
            if (step === 'time') expect(inState('waiting')).toEqual([]);
          }
        },
      ),
    ));

  it('refuse a caller that has waited too long, and one whose signal aborts with its reason', async () => {
    const slots = new ConnectionSlots({ connections: 1, waiting: 2, waitMs: WAIT_MS });
    await slots.acquire();
    const gone = new AbortController();
    const late = expect(slots.acquire()).rejects.toBeInstanceOf(PoolExhausted);
    const left = expect(slots.acquire(gone.signal)).rejects.toBe(GONE);
    await expect(slots.acquire()).rejects.toBeInstanceOf(PoolExhausted);
    gone.abort(GONE);
    await left;
    vi.advanceTimersByTime(WAIT_MS);
    await late;
    slots.release();
    expect(slots.inUse).toBe(0);
  });
});
