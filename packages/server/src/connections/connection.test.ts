import { Socket } from 'node:net';
import { LIMITS, ProtocolError, type ServerMessage } from '@goforward/realtime-protocol';
import fc from 'fast-check';
import { beforeEach, describe, expect, it } from 'vitest';
import { Channel } from '../channels/channel.js';
import { channelConfig } from '../channels/channel-config.js';
import { MessageEncoder } from '../channels/message-encoder.js';
import { silentLog } from '../lib/log.js';
import { Tick } from '../lib/tick.js';
import { TimerWheel } from '../lib/timer-wheel.js';
import { KeyedRateLimiter } from '../lib/token-bucket.js';
import { Connection } from './connection.js';
import type { ReceivedMessage } from './decode.js';
import { textFrame } from './frame.js';

const rethrow = (error: unknown) => {
  throw error;
};

const HOUR = 3_600_000;
const START = Date.parse('2025-01-15T10:30:00Z');

/** A socket without a network: records the written frames. */
class FakeSocket extends Socket {
  isReading = true;
  #bytes = Buffer.alloc(0);

  override _write(chunk: Buffer, _encoding: string, done: () => void): void {
    this.#bytes = Buffer.concat([this.#bytes, chunk]);
    if (this.isReading) done();
  }

  override _writev(chunks: { chunk: Buffer }[], done: () => void): void {
    this._write(Buffer.concat(chunks.map(({ chunk }) => chunk)), '', done);
  }

  /** Returns the frames since the last call: a message, `ping`, `pong <body>` or `close <code> <reason>`. */
  frames(): (ServerMessage | string)[] {
    const frames: (ServerMessage | string)[] = [];
    for (let at = 0; at < this.#bytes.length; ) {
      const short = (this.#bytes[at + 1] ?? 0) & 0x7f;
      const body = at + (short === 126 ? 4 : 2);
      const end = body + (short === 126 ? this.#bytes.readUInt16BE(at + 2) : short);
      frames.push(meaning((this.#bytes[at] ?? 0) & 0x0f, this.#bytes.subarray(body, end)));
      at = end;
    }
    this.#bytes = Buffer.alloc(0);
    return frames;
  }
}

function meaning(opcode: number, body: Buffer): ServerMessage | string {
  if (opcode === 1) return JSON.parse(body.toString());
  if (opcode === 8)
    return body.length === 0 ? 'close' : `close ${body.readUInt16BE(0)} ${body.toString('utf8', 2)}`;
  return opcode === 9 ? 'ping' : `pong ${body.toString()}`;
}

let now: number;
/** How far the wall clock was set forward or back. */
let wallJump: number;
const wallClock = { epochMs: () => START + now + wallJump };
let tick: Tick;
let wheel: TimerWheel;
let socket: FakeSocket;
let handled: ReceivedMessage[];
let closed: unknown[];
let refused: string[];
let answer: (message: ReceivedMessage) => Record<string, unknown>;

beforeEach(() => {
  now = 0;
  wallJump = 0;
  tick = new Tick((error) => {
    throw error;
  });
  wheel = new TimerWheel(rethrow, () => now);
  socket = new FakeSocket();
  handled = [];
  closed = [];
  refused = [];
  answer = () => ({});
});

function connect(
  options: { expiresAt?: number; toleranceMs?: number; perSecond?: number; maxOutboxBytes?: number } = {},
): Connection {
  const identity = {
    userId: 'ann',
    limitedAs: 'ann',
    roles: ['user'],
    expiresAt: options.expiresAt ?? null,
    claims: {},
  };
  const counters = { messagesReceived: 0, bytesReceived: 0, slowConsumers: 0, bytesSent: 0, writes: 0 };
  const rate = { perSecond: options.perSecond ?? 1_000, burst: options.perSecond ?? 1_000 };
  const connection = new Connection(
    socket,
    { id: 'c1', identity, address: '192.0.2.1', echo: true, presence: 'each' },
    {
      clock: () => now,
      wallClock,
      tick,
      wheel,
      encoder: new MessageEncoder(textFrame, wallClock),
      dispatch: {
        handle: (_, message) => {
          handled.push(message);
          return answer(message);
        },
        closed: (one) => closed.push(one),
      },
      messageRate: new KeyedRateLimiter(rate),
      counters: { ...counters, refused: (code) => refused.push(code) },
      log: silentLog,
      pingIntervalMs: 30_000,
      timeoutMs: 60_000,
      maxOutboxBytes: options.maxOutboxBytes ?? 100_000,
      tokenToleranceMs: options.toleranceMs ?? 0,
    },
  );
  connection.watch();
  return connection;
}

/** Adds the connection to a channel. */
function enter(connection: Connection): Channel {
  const parts = { tick, counters: { deliveries: 0, fanOutMs: () => undefined }, now };
  const channel = new Channel('lobby', 'automatic', channelConfig({}, 10), parts);
  channel.audience.join(connection);
  connection.channel = channel;
  return channel;
}

const send = (connection: Connection, message: unknown) =>
  connection.received(Buffer.from(JSON.stringify(message)), false);

/** Returns what the client got since the last call: messages as `type/event`, errors with their code. */
function received(): string[] {
  tick.flush();
  return socket.frames().map((frame) => {
    if (typeof frame === 'string') return frame;
    const { code } = frame.payload as { code?: string };
    return [`${frame.type}/${frame.event}`, code, frame.ref].filter((part) => part !== undefined).join(' ');
  });
}

function waitFor(ms: number): void {
  for (const end = now + ms; now < end; ) {
    now += 100;
    wheel.tick();
  }
}

describe('a message from a client', () => {
  it('is dispatched, and answered once if it has a ref', () => {
    const connection = connect();
    answer = () => ({ offset: 7 });
    send(connection, { type: 'message', event: 'e' });
    send(connection, { type: 'message', event: 'e', ref: 0 });
    tick.flush();
    expect(handled).toHaveLength(2);
    expect(socket.frames()).toMatchObject([
      { type: 'reply', event: 'ok', payload: { offset: 7 }, ref: 0, user_id: 'system' },
    ]);
  });

  it('that fails is answered by an error, or by a reply to its ref, and the connection stays', () => {
    const connection = connect();
    answer = () => {
      throw new ProtocolError('PERMISSION_DENIED');
    };
    send(connection, { type: 'message', event: 'e' });
    send(connection, { type: 'message', event: 'e', ref: 'r' });
    send(connection, { type: 'message', ref: 1 });
    connection.received(Buffer.from('{'), false);
    connection.received(Buffer.from('{}'), true);
    expect(received()).toEqual([
      'system/error PERMISSION_DENIED',
      'reply/error PERMISSION_DENIED r',
      'reply/error VALIDATION_FAILED 1',
      'system/error INVALID_JSON',
      'system/error INVALID_JSON',
    ]);
    expect(connection.isOpen).toBe(true);
    expect(refused).toHaveLength(5);
  });

  it('that causes an internal error gets an answer without its cause', () => {
    const connection = connect();
    answer = () => {
      throw new Error('SELECT secret');
    };
    send(connection, { type: 'message', event: 'e' });
    tick.flush();
    expect(socket.frames()).toMatchObject([{ payload: { error: 'internal error', code: 'INTERNAL' } }]);
  });

  it('over the rate is rejected and not handled; a later one is handled', () => {
    const connection = connect({ perSecond: 2 });
    for (const ref of [1, 2, 3]) send(connection, { type: 'ping', event: 'ping', ref });
    expect(received()).toEqual(['reply/ok 1', 'reply/ok 2', 'reply/error RATE_LIMIT_EXCEEDED 3']);
    now += 500;
    send(connection, { type: 'ping', event: 'ping', ref: 4 });
    expect(received()).toEqual(['reply/ok 4']);
    expect(handled).toHaveLength(3);
  });

  it('that causes the 101st error is still answered by a reply to its ref', () => {
    const connection = connect();
    for (let n = 0; n < 100; n++) connection.received(Buffer.from('{'), false);
    received();
    connection.received(Buffer.from('{"ref":7}'), false);
    expect(received()).toEqual([
      'reply/error VALIDATION_FAILED 7',
      'system/error RATE_LIMIT_EXCEEDED',
      'close 4429 RATE_LIMIT_EXCEEDED',
    ]);
  });

  it('may be invalid 100 times a minute; one more closes the connection', () => {
    const connection = connect();
    for (let n = 0; n < 100; n++) connection.received(Buffer.from('{'), false);
    now += 60_000;
    for (let n = 0; n < 100; n++) connection.received(Buffer.from('{'), false);
    expect(received()).toHaveLength(200);
    connection.received(Buffer.from('{'), false);
    expect(received()).toEqual(['system/error RATE_LIMIT_EXCEEDED', 'close 4429 RATE_LIMIT_EXCEEDED']);
    send(connection, { type: 'ping', event: 'ping', ref: 1 });
    expect([received(), handled]).toEqual([[], []]);
  });
});

describe('a connection', () => {
  it('that is closed while it joins still has time to read the last messages', () => {
    const connection = connect();
    connection.close(4409, 'SLOW_CONSUMER');
    connection.watch();
    expect(socket.destroyed).toBe(false);
    waitFor(2_100);
    expect(socket.destroyed).toBe(true);
  });

  it('pings at its interval, and answers pings with their body', () => {
    const connection = connect();
    waitFor(29_900);
    expect(received()).toEqual([]);
    waitFor(200);
    connection.pinged(Buffer.from('abc'));
    expect(received()).toEqual(['ping', 'pong abc']);
  });

  it('limits pongs by the message rate', () => {
    const connection = connect({ perSecond: 2 });
    for (const body of ['1', '2', '3']) connection.pinged(Buffer.from(body));
    expect(received()).toEqual(['pong 1', 'pong 2', 'system/error RATE_LIMIT_EXCEEDED']);
  });

  it.each(['message', 'ping', 'pong'])(
    'is closed as stale after the timeout, counted from the last %s',
    (sign) => {
      const connection = connect();
      waitFor(50_000);
      if (sign === 'message') send(connection, { type: 'ping', event: 'ping' });
      else if (sign === 'ping') connection.pinged(Buffer.alloc(0));
      else connection.ponged();
      waitFor(59_900);
      expect(connection.isOpen).toBe(true);
      waitFor(200);
      expect(received().slice(-2)).toEqual(['system/error STALE_CONNECTION', 'close 4408 STALE_CONNECTION']);
    },
  );

  it('gets one notice 30 s before its token expires, and is closed at expiry', () => {
    const connection = connect({ expiresAt: START + 50_000 });
    waitFor(19_900);
    expect(received()).toEqual([]);
    waitFor(200);
    expect(received()).toEqual(['system/token_expiring']);
    waitFor(29_800);
    expect([received(), connection.isOpen]).toEqual([['ping'], true]);
    waitFor(200);
    expect(received()).toEqual(['system/error AUTH_FAILED', 'close 4401 AUTH_FAILED']);
  });

  it('stays open for the clock tolerance after its token expired, and is closed with the reason', () => {
    const connection = connect({ expiresAt: START + 40_000, toleranceMs: 5_000 });
    waitFor(44_900);
    expect(connection.isOpen).toBe(true);
    received();
    waitFor(200);
    tick.flush();
    expect(socket.frames()[0]).toMatchObject({
      event: 'error',
      payload: { code: 'AUTH_FAILED', details: 'The token has expired', reason: 'expired' },
    });
  });

  it.each([HOUR, -HOUR])(
    'gets every ping, and is stale in time, when the wall clock is set by %d ms',
    (jump) => {
      const connection = connect();
      waitFor(20_000);
      wallJump = jump;
      waitFor(10_100);
      expect(received()).toEqual(['ping']);
      connection.ponged();
      waitFor(59_900);
      expect([received(), connection.isOpen]).toEqual([['ping', 'ping'], true]);
      waitFor(200);
      expect(received()).toEqual(['system/error STALE_CONNECTION', 'close 4408 STALE_CONNECTION']);
    },
  );

  it('is closed within a ping interval when the wall clock is set forward past the expiry of its token', () => {
    const connection = connect({ expiresAt: START + HOUR / 2 });
    waitFor(10_000);
    wallJump = HOUR;
    waitFor(30_000);
    expect(connection.isOpen).toBe(false);
    expect(received()).toEqual(['system/error AUTH_FAILED', 'close 4401 AUTH_FAILED']);
  });

  it('is notified and closed by the new time when the wall clock is set back before the expiry of its token', () => {
    const connection = connect({ expiresAt: START + 60_000 });
    wallJump = -20_000;
    waitFor(49_900);
    expect(received()).toEqual(['ping']);
    connection.ponged();
    waitFor(200);
    expect(received()).toEqual(['system/token_expiring']);
    waitFor(29_800);
    expect([received(), connection.isOpen]).toEqual([['ping'], true]);
    waitFor(200);
    expect(received()).toEqual(['system/error AUTH_FAILED', 'close 4401 AUTH_FAILED']);
  });

  it('outlives any jumps of the wall clock that leave its token valid, with a ping per interval', () => {
    const jumps = fc.array(fc.record({ after: fc.nat(300), to: fc.integer({ min: -HOUR, max: HOUR }) }), {
      maxLength: 20,
    });
    fc.assert(
      fc.property(jumps, (steps) => {
        now = 0;
        wheel = new TimerWheel(rethrow, () => now);
        socket = new FakeSocket();
        const connection = connect({ expiresAt: START + 10 * HOUR });
        let pings = 0;
        for (const { after, to } of steps) {
          waitFor(after * 100);
          wallJump = to;
          connection.ponged();
          pings += received().filter((frame) => frame === 'ping').length;
        }
        expect([connection.isOpen, pings]).toEqual([true, Math.floor(now / 30_000)]);
      }),
    );
  });

  it('counts errors per minute by no wall clock', () => {
    const connection = connect();
    for (let n = 0; n < LIMITS.errorsPerMinute; n++) {
      wallJump = n % 2 === 0 ? HOUR : -HOUR;
      send(connection, { type: 'unknown' });
    }
    expect(connection.isOpen).toBe(true);
    send(connection, { type: 'unknown' });
    expect(connection.isOpen).toBe(false);
  });

  it('that reads too slowly is closed with SLOW_CONSUMER, once', () => {
    const connection = connect({ maxOutboxBytes: 1_000 });
    socket.isReading = false;
    for (let n = 0; n < 50; n++) connection.push(textFrame(JSON.stringify('x'.repeat(100))));
    tick.flush();
    expect([connection.isOpen, refused]).toEqual([true, []]);
    connection.push(textFrame('"one more"'));
    tick.flush();
    expect([connection.isOpen, refused]).toEqual([false, ['SLOW_CONSUMER']]);
  });

  it('sends its close frame last, and is destroyed when the client does not answer', () => {
    const connection = connect();
    connection.push(textFrame('{"type":"a","event":"b","payload":{}}'));
    connection.close(1012, 'server restart');
    connection.close(1011, 'again');
    connection.push(textFrame('{}'));
    expect(received()).toEqual(['a/b', 'close 1012 server restart']);
    waitFor(1_900);
    expect(socket.destroyed).toBe(false);
    waitFor(200);
    expect(socket.destroyed).toBe(true);
  });

  it('gets its own messages after earlier ones of its channel, and leaves the channel once', () => {
    const connection = connect();
    const channel = enter(connection);
    channel.audience.send(textFrame('{"type":"message","event":"1","payload":{}}'));
    connection.send('system', 'error', {});
    channel.audience.send(textFrame('{"type":"message","event":"2","payload":{}}'));
    connection.channelClosed(new ProtocolError('CHANNEL_CLOSED', { fields: { reason: 'channel deleted' } }));
    connection.socketClosed();
    expect(received()).toEqual([
      'message/1',
      'system/error',
      'message/2',
      'system/channel_closed',
      'close 4510 channel deleted',
    ]);
    expect([closed, connection.channel]).toEqual([[connection], undefined]);
  });

  it('that closes in the tick of a message still gets it', () => {
    const connection = connect();
    enter(connection).audience.send(textFrame('{"type":"message","event":"1","payload":{}}'));
    connection.close(1012);
    expect(received()).toEqual(['message/1', 'close 1012 ']);
  });

  it('answers a close frame with the same code and ends the socket', () => {
    const connection = connect();
    connection.closeRequested(4000);
    connection.closeRequested(4000);
    expect(received()).toEqual(['close 4000 ']);
    expect([connection.isOpen, socket.writableEnded]).toEqual([false, true]);
  });

  it('has no timers after its socket has closed', () => {
    const connection = connect();
    connection.socketClosed();
    waitFor(200_000);
    expect([received(), connection.isOpen, connection.wheelIndex]).toEqual([[], false, -1]);
  });
});
