import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { type Flushable, type Stage, Tick } from './tick.js';

let done: string[];
let errors: unknown[];
let tick: Tick;

/** Work that notes that it was done, and then does more. */
function work(name: string, more: () => void = () => undefined): Flushable {
  return {
    flush: () => {
      done.push(name);
      more();
    },
  };
}

beforeEach(() => {
  vi.useFakeTimers({ toFake: ['setImmediate'] });
  done = [];
  errors = [];
  tick = new Tick((error) => errors.push(error));
});

afterEach(() => {
  vi.useRealTimers();
});

describe('the end of a turn', () => {
  it('comes once, after everything that this turn does', () => {
    tick.add('channels', work('a'));
    tick.add('channels', work('b'));
    expect(done).toEqual([]);
    expect(vi.getTimerCount()).toBe(1);
    vi.runAllTimers();
    expect(done).toEqual(['a', 'b']);
  });

  it('goes stage by stage, in each in the order of adding', () => {
    for (const stage of ['outboxes', 'channels', 'presence', 'outboxes', 'channels', 'presence'] as Stage[]) {
      tick.add(stage, work(`${stage} ${done.length}`));
    }
    vi.runAllTimers();
    expect(done.map((name) => name.split(' ')[0])).toEqual([
      'presence',
      'presence',
      'channels',
      'channels',
      'outboxes',
      'outboxes',
    ]);
  });

  it('includes what an earlier stage brings to a later one', () => {
    tick.add(
      'presence',
      work('presence', () =>
        tick.add(
          'channels',
          work('channel', () => tick.add('outboxes', work('outbox'))),
        ),
      ),
    );
    vi.runOnlyPendingTimers();
    expect(done).toEqual(['presence', 'channel', 'outbox']);
    expect(vi.getTimerCount()).toBe(0);
  });

  it('leaves what comes to a stage that is under way or over to the next turn', () => {
    tick.add(
      'channels',
      work('first', () => {
        tick.add('channels', work('same stage'));
        tick.add('presence', work('earlier stage'));
      }),
    );
    vi.runOnlyPendingTimers();
    expect(done).toEqual(['first']);
    vi.runOnlyPendingTimers();
    expect(done).toEqual(['first', 'earlier stage', 'same stage']);
    expect(vi.getTimerCount()).toBe(0);
  });

  it('is not kept from the others by the defect of one', () => {
    const defect = new Error('a defect');
    tick.add('channels', work('a'));
    tick.add(
      'channels',
      work('broken', () => {
        throw defect;
      }),
    );
    tick.add('channels', work('b'));
    tick.add('outboxes', work('c'));
    vi.runAllTimers();
    expect(done).toEqual(['a', 'broken', 'b', 'c']);
    expect(errors).toEqual([defect]);
    tick.add('presence', work('the next turn'));
    vi.runAllTimers();
    expect(done.at(-1)).toBe('the next turn');
  });

  it('may be forced, and then has nothing left to do', () => {
    tick.add('channels', work('a'));
    tick.flush();
    expect(done).toEqual(['a']);
    vi.runAllTimers();
    expect(done).toEqual(['a']);
    tick.add('channels', work('b'));
    vi.runAllTimers();
    expect(done).toEqual(['a', 'b']);
  });
});
