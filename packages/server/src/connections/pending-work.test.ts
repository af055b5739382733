import fc from 'fast-check';
import { beforeEach, describe, expect, it } from 'vitest';
import { PENDING_LIMITS, PendingWork, RequestDropped, type Requester } from './pending-work.js';

const LIMITS = { perConnection: { requests: 3, bytes: 1_000 }, perUser: { requests: 5, bytes: 1_500 } };

let pending: PendingWork;

beforeEach(() => {
  pending = new PendingWork(LIMITS);
});

function requester(user: string): Requester {
  return { identity: { limitedAs: user } };
}

/** A request that runs until `end`, with whether it has started and whether it was dropped. */
function request(from: Requester, bytes = 1, lane = 'subscribe') {
  const own: { hasStarted: boolean; isAborted: boolean; end: () => void } = {
    hasStarted: false,
    isAborted: false,
    end: () => undefined,
  };
  const done = pending.run(from, lane, bytes, (signal) => {
    own.hasStarted = true;
    signal.addEventListener('abort', () => {
      own.isAborted = true;
    });
    return new Promise<void>((resolve) => {
      own.end = resolve;
    });
  });
  done.catch(() => undefined);
  return Object.assign(own, { done });
}

const refused = { code: 'RATE_LIMIT_EXCEEDED', body: expect.objectContaining({ retry_after: 1 }) };

describe('pending work', () => {
  it('of one lane of a connection runs one at a time, in order; lanes and connections do not wait for each other', async () => {
    const [ann, bob] = [requester('ann'), requester('bob')];
    const [first, second] = [request(ann), request(ann)];
    const [otherLane, other] = [request(ann, 1, 'refresh'), request(bob)];
    await Promise.resolve();
    expect([first, second, otherLane, other].map(({ hasStarted }) => hasStarted)).toEqual([
      true,
      false,
      true,
      true,
    ]);
    first.end();
    await first.done;
    await Promise.resolve();
    expect(second.hasStarted).toBe(true);
  });

  it('goes on after a request that fails', async () => {
    const ann = requester('ann');
    const failing = pending.run(ann, 'subscribe', 1, () => Promise.reject(new Error('no')));
    const next = pending.run(ann, 'subscribe', 1, async () => 'done');
    await expect(failing).rejects.toThrow('no');
    await expect(next).resolves.toBe('done');
    expect(pending.size).toBe(0);
  });

  it('is refused beyond the requests and bytes of a connection, and allowed again when one has ended', async () => {
    const ann = requester('ann');
    const [first] = [request(ann, 100), request(ann, 100), request(ann, 100)];
    expect(() => request(ann)).toThrow(expect.objectContaining(refused));
    first?.end();
    await first?.done;
    expect(() => request(ann, 900)).toThrow(expect.objectContaining(refused));
    expect(() => request(ann, 800)).not.toThrow();
  });

  it('is refused beyond the requests and bytes of all connections of a user, whatever others do', () => {
    for (let n = 0; n < 5; n++) request(requester('ann'));
    expect(() => request(requester('ann'))).toThrow(expect.objectContaining(refused));
    for (let n = 0; n < 3; n++) request(requester('bob'), 500);
    expect(() => request(requester('bob'), 1)).toThrow(expect.objectContaining(refused));
    expect(() => request(requester('cat'))).not.toThrow();
  });

  it('takes a single request that is larger than the limit', () => {
    expect(() => request(requester('ann'), 5_000)).not.toThrow();
  });

  it('of a closed connection is dropped: what waits never starts, and the signal of what runs aborts', async () => {
    const ann = requester('ann');
    const [running, waiting] = [request(ann), request(ann)];
    pending.drop(ann);
    expect([running.isAborted, running.hasStarted]).toEqual([true, true]);
    await expect(waiting.done).rejects.toThrow(RequestDropped);
    expect(waiting.hasStarted).toBe(false);
    // Its statement may still run.
    expect(pending.size).toBe(1);
    running.end();
    await running.done;
    expect(pending.size).toBe(0);
  });

  it('of a closed connection counts for the user until it has ended, so that reconnecting gains nothing', async () => {
    const running = [];
    for (let n = 0; n < 5; n++) {
      const connection = requester('ann');
      running.push(request(connection));
      pending.drop(connection);
    }
    expect(() => request(requester('ann'))).toThrow(expect.objectContaining(refused));
    running[0]?.end();
    await running[0]?.done;
    expect(() => request(requester('ann'))).not.toThrow();
  });

  it('never exceeds a limit and counts nothing once everything has ended, in any order of events', async () => {
    const event = fc.oneof(
      fc.record({
        kind: fc.constant('ask' as const),
        connection: fc.nat(5),
        bytes: fc.integer({ min: 1, max: 700 }),
      }),
      fc.record({ kind: fc.constant('end' as const), nth: fc.nat(20) }),
      fc.record({ kind: fc.constant('close' as const), connection: fc.nat(5) }),
    );
    await fc.assert(
      fc.asyncProperty(fc.array(event, { maxLength: 80 }), async (events) => {
        pending = new PendingWork(LIMITS);
        const users = ['ann', 'ann', 'ann', 'bob', 'bob', 'cat'];
        const connections = users.map(requester);
        let asked: { user: string; bytes: number; own: ReturnType<typeof request>; isOver: boolean }[] = [];
        for (const happening of events) {
          if (happening.kind === 'ask') {
            const { connection, bytes } = happening;
            const from = connections[connection] ?? requester('dan');
            try {
              const entry = {
                user: from.identity.limitedAs,
                bytes,
                own: request(from, bytes),
                isOver: false,
              };
              const over = () => {
                entry.isOver = true;
              };
              entry.own.done.then(over, over);
              asked.push(entry);
            } catch (error) {
              expect(error).toMatchObject(refused);
            }
          } else if (happening.kind === 'end') asked[happening.nth]?.own.end();
          else {
            const from = connections[happening.connection];
            if (from !== undefined) pending.drop(from);
            connections[happening.connection] = requester(users[happening.connection] ?? 'dan');
          }
          await new Promise((resolve) => setImmediate(resolve));
          asked = asked.filter(({ isOver }) => !isOver);
          expect(pending.size).toBe(asked.length);
          for (const user of new Set(users)) {
            const own = asked.filter((entry) => entry.user === user);
            expect(own.length).toBeLessThanOrEqual(LIMITS.perUser.requests);
            if (own.length > 1)
              expect(own.reduce((sum, { bytes }) => sum + bytes, 0)).toBeLessThanOrEqual(
                LIMITS.perUser.bytes,
              );
          }
        }
        for (const connection of connections) pending.drop(connection);
        for (const { own } of asked) own.end();
        await Promise.allSettled(asked.map(({ own }) => own.done));
        expect(pending.size).toBe(0);
      }),
      { numRuns: 60 },
    );
  });

  it('is by default 16 requests of a connection and 64 of a user', () => {
    pending = new PendingWork();
    const connections = Array.from({ length: 5 }, () => requester('ann'));
    for (const connection of connections.slice(0, 4)) {
      for (let n = 0; n < PENDING_LIMITS.perConnection.requests; n++) request(connection);
      expect(() => request(connection)).toThrow(expect.objectContaining(refused));
    }
    expect([pending.size, PENDING_LIMITS.perConnection.requests]).toEqual([64, 16]);
    expect(() => request(connections[4] ?? requester('ann'))).toThrow(expect.objectContaining(refused));
  });
});
