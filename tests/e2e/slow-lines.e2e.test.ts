import { once } from 'node:events';
import { type AddressInfo, connect, createServer, type Socket } from 'node:net';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { MemberFeeds } from '../../packages/server/src/changes/delivery/member-feeds.js';
import { ChangeBatch } from '../../packages/server/src/changes/log/change-batch.js';
import { MessageEncoder } from '../../packages/server/src/channels/message-encoder.js';
import { Connection } from '../../packages/server/src/connections/connection.js';
import { textFrame } from '../../packages/server/src/connections/frame.js';
import { type Clock, wallClock } from '../../packages/server/src/lib/clock.js';
import { silentLog } from '../../packages/server/src/lib/log.js';
import { Tick } from '../../packages/server/src/lib/tick.js';
import { TimerWheel } from '../../packages/server/src/lib/timer-wheel.js';
import { KeyedRateLimiter } from '../../packages/server/src/lib/token-bucket.js';

/** Time passes faster for the server than it does, so that a minute on a slow line takes seconds. */
const SPEED = 40;
const clock: Clock = () => performance.now() * SPEED;

const ROW = textFrame('x'.repeat(20_000_000));
const NEXT_ROW = textFrame('next');
const NO_BACKPRESSURE = { isBlocked: false, hasCaughtUpMember: false, oldest: undefined };

const fail = (error: unknown) => {
  throw error;
};

let feeds: MemberFeeds;
let wheel: TimerWheel;
let tick: Tick;
let refused: string[];
let cleanUp: (() => void)[];
beforeEach(() => {
  feeds = new MemberFeeds(clock);
  wheel = new TimerWheel(fail, clock);
  tick = new Tick(fail);
  refused = [];
  const check = setInterval(() => feeds.closeSlowMembers(NO_BACKPRESSURE), 1_000 / SPEED);
  wheel.start();
  cleanUp = [() => clearInterval(check), () => wheel.stop()];
});
afterEach(() => {
  for (const clean of cleanUp) clean();
});

/** Connects two sockets over TCP. */
async function pair(): Promise<{ ours: Socket; peer: Socket }> {
  const listener = createServer().listen(0, '127.0.0.1');
  await once(listener, 'listening');
  const accepted = once(listener, 'connection');
  const peer = connect((listener.address() as AddressInfo).port, '127.0.0.1');
  const [ours] = (await accepted) as [Socket];
  for (const socket of [ours, peer]) socket.on('error', () => undefined);
  cleanUp.push(
    () => peer.destroy(),
    () => ours.destroy(),
    () => listener.close(),
  );
  return { ours, peer };
}

/** Accepts a connection that is a member, and sends it a large row and another one. */
function deliverTo(socket: Socket): Connection {
  const counters = { messagesReceived: 0, bytesReceived: 0, slowConsumers: 0, bytesSent: 0, writes: 0 };
  const connection = new Connection(
    socket,
    {
      id: 'c1',
      identity: { userId: 'ann', limitedAs: 'ann', roles: ['user'], expiresAt: null, claims: {} },
      address: '192.0.2.1',
      echo: true,
      presence: 'each',
    },
    {
      clock,
      wallClock,
      tick,
      wheel,
      encoder: new MessageEncoder(textFrame, wallClock),
      dispatch: { handle: () => ({}), closed: () => undefined },
      messageRate: new KeyedRateLimiter({ perSecond: 100, burst: 100 }),
      counters: { ...counters, refused: (code) => refused.push(code) },
      log: silentLog,
      pingIntervalMs: 30_000,
      timeoutMs: 60_000,
      maxOutboxBytes: 1_000_000,
      tokenToleranceMs: 0,
    },
  );
  connection.watch();
  const batch = new ChangeBatch('e', {}, () => undefined);
  feeds.deliver(connection, [ROW], batch);
  feeds.deliver(connection, [NEXT_ROW], batch);
  socket.once('close', () => feeds.remove(connection));
  return connection;
}

/** Reads at `rate` bytes a second of the server's time, and answers no ping. Returns the number of bytes that it has got. */
function readSlowly(peer: Socket, rate: number): () => number {
  const start = clock();
  let bytes = 0;
  peer.on('readable', () => undefined);
  const timer = setInterval(() => {
    const allowed = Math.floor(((clock() - start) / 1_000) * rate) - bytes;
    if (allowed > 0)
      bytes += (peer.read(Math.min(allowed, peer.readableLength)) as Buffer | null)?.length ?? 0;
  }, 2);
  cleanUp.push(() => clearInterval(timer));
  return () => bytes;
}

test('a member on a slow line receives a row of 20 MB and what follows it, though that takes longer than it may be silent', async () => {
  const { ours, peer } = await pair();
  const received = readSlowly(peer, 300_000);
  const started = clock();
  const connection = deliverTo(ours);
  await expect
    .poll(received, { interval: 20, timeout: 20_000 })
    .toBeGreaterThanOrEqual(ROW.length + NEXT_ROW.length);
  expect(clock() - started).toBeGreaterThan(60_000);
  expect([refused, connection.isOpen, feeds.behindCount]).toEqual([[], true, 0]);
});

test.each([
  ['reads nothing', 0],
  ['reads a byte a second', 1],
  ['reads 8 kB a second', 8_000],
])('a member that %s is closed as a slow consumer, and in time', async (_, rate) => {
  const { ours, peer } = await pair();
  if (rate === 0) peer.pause();
  else readSlowly(peer, rate);
  const started = clock();
  const connection = deliverTo(ours);
  await expect.poll(() => connection.isOpen, { interval: 10 }).toBe(false);
  expect(refused).toEqual(['SLOW_CONSUMER']);
  expect(clock() - started).toBeGreaterThanOrEqual(30_000);
});
