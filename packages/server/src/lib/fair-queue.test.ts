import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { FairQueue, type FairQueueLimits } from './fair-queue.js';

/** Runs tasks that end when the test says so, and records the order of their starts. */
function subject(limits: FairQueueLimits) {
  const queue = new FairQueue(limits);
  const started: string[] = [];
  const running: { user: string; end: () => void }[] = [];
  const ask = (user: string, signal?: AbortSignal) => {
    const work = () => {
      started.push(user);
      return new Promise<void>((resolve) => running.push({ user, end: resolve }));
    };
    const done = queue.run(user, work, signal);
    done.catch(() => undefined);
    return done;
  };
  const endFirst = async () => {
    running.shift()?.end();
    await settle();
  };
  return { queue, started, running, ask, endFirst };
}

function settle(): Promise<void> {
  return new Promise((resolve) => setImmediate(resolve));
}

describe('a fair queue', () => {
  it('lets users take turns: one with many tasks delays another by one round', async () => {
    const { started, ask, endFirst } = subject({ atOnce: 1, perUser: 1 });
    for (let n = 0; n < 5; n++) void ask('ann');
    void ask('bob');
    void ask('cat');
    void ask('bob');
    await settle();
    for (let n = 0; n < 7; n++) await endFirst();
    expect(started).toEqual(['ann', 'ann', 'bob', 'cat', 'ann', 'bob', 'ann', 'ann']);
  });

  it('leaves room for others beside a user that has all it may run', async () => {
    const { started, ask } = subject({ atOnce: 3, perUser: 2 });
    for (let n = 0; n < 5; n++) void ask('ann');
    void ask('bob');
    await settle();
    expect(started).toEqual(['ann', 'ann', 'bob']);
  });

  it('passes over a user who is not admitted, and starts the task when that has changed', async () => {
    let isFull = true;
    const admits = (user: string) => user !== 'ann' || !isFull;
    const { queue, started, ask } = subject({ atOnce: 2, perUser: 2, admits });
    void ask('ann');
    void ask('bob');
    await settle();
    expect([started, queue.waitingCount]).toEqual([['bob'], 1]);
    isFull = false;
    queue.startWaiting();
    expect(started).toEqual(['bob', 'ann']);
  });

  it('asks for each task after the one before has begun, so that what it takes counts', async () => {
    let room = 1;
    const queue = new FairQueue({ atOnce: 9, perUser: 9, admits: () => room > 0 });
    const work = async () => {
      room -= 1;
    };
    room = 0;
    const tasks = [queue.run('ann', work), queue.run('ann', work), queue.run('bob', work)];
    room = 1;
    queue.startWaiting();
    expect([room, queue.waitingCount]).toEqual([0, 2]);
    room = 2;
    queue.startWaiting();
    await Promise.all(tasks);
    expect(room).toBe(0);
  });

  it('never starts a task whose signal has aborted, and forgets it at once', async () => {
    const { queue, started, ask, endFirst } = subject({ atOnce: 1, perUser: 1 });
    const reason = new Error('gone');
    const gone = new AbortController();
    void ask('ann');
    const dropped = ask('ann', gone.signal);
    void ask('ann');
    expect(queue.waitingCount).toBe(2);
    gone.abort(reason);
    expect(queue.waitingCount).toBe(1);
    await expect(dropped).rejects.toBe(reason);
    await expect(ask('bob', gone.signal)).rejects.toBe(reason);
    await endFirst();
    await endFirst();
    expect(started).toEqual(['ann', 'ann']);
  });

  it('never runs more than its limits, and everything in the end', async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.record({ atOnce: fc.integer({ min: 1, max: 4 }), perUser: fc.integer({ min: 1, max: 3 }) }),
        fc.array(fc.option(fc.constantFrom('ann', 'bob', 'cat'), { nil: 'end' }), { maxLength: 60 }),
        async (limits, events) => {
          const { queue, started, running, ask, endFirst } = subject(limits);
          let asked = 0;
          const check = () => {
            expect(running.length).toBeLessThanOrEqual(limits.atOnce);
            for (const user of ['ann', 'bob', 'cat'])
              expect(running.filter((task) => task.user === user).length).toBeLessThanOrEqual(limits.perUser);
          };
          for (const event of events) {
            if (event === 'end') await endFirst();
            else {
              asked += 1;
              void ask(event);
              await settle();
            }
            check();
          }
          while (running.length > 0) {
            await endFirst();
            check();
          }
          expect([started.length, queue.waitingCount]).toEqual([asked, 0]);
        },
      ),
      { numRuns: 60 },
    );
  });
});
