import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { type Flushable, type Stage, Tick } from './tick.js';

let done: string[];
let errors: unknown[];
let tick: Tick;

/** Creates an item that records its flush under `name` and then calls `more`. */
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

describe('the end of a tick', () => {
  it('flushes once, after everything else in the tick', () => {
    tick.add('channels', work('a'));
    tick.add('channels', work('b'));
    expect(done).toEqual([]);
    expect(vi.getTimerCount()).toBe(1);
    vi.runAllTimers();
    expect(done).toEqual(['a', 'b']);
  });

  it('flushes stage by stage, within a stage in the order of adding', () => {
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

  it('includes items that an earlier stage adds to a later one', () => {
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

  it('leaves items added to a running or finished stage to the next tick', () => {
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

  it('flushes the other items when one throws, and reports the error', () => {
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
    tick.add('presence', work('the next tick'));
    vi.runAllTimers();
    expect(done.at(-1)).toBe('the next tick');
  });

  it('can be forced early, and then flushes nothing twice', () => {
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
