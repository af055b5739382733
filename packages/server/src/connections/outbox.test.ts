import { Duplex } from 'node:stream';
import fc from 'fast-check';
import { beforeEach, describe, expect, it } from 'vitest';
import { Tick } from '../lib/tick.js';
import { Outbox } from './outbox.js';

/** A socket whose peer reads only while `isReading`. Counts the writes that reach the kernel. */
class FakeSocket extends Duplex {
  readonly written: Buffer[] = [];
  writes = 0;
  isReading = true;
  #waiting: (() => void) | undefined;

  constructor() {
    super({ highWaterMark: 1 });
  }

  get text(): string {
    return Buffer.concat(this.written).toString();
  }

  override _read(): void {}

  override _write(chunk: Buffer, _encoding: string, done: () => void): void {
    this.#take([chunk], done);
  }

  override _writev(chunks: { chunk: Buffer }[], done: () => void): void {
    this.#take(
      chunks.map(({ chunk }) => chunk),
      done,
    );
  }

  /** The peer reads again. */
  resumeReading(): void {
    this.isReading = true;
    this.#waiting?.();
  }

  #take(chunks: Buffer[], done: () => void): void {
    this.writes += 1;
    const take = () => {
      this.#waiting = undefined;
      this.written.push(...chunks);
      done();
    };
    if (this.isReading) take();
    else this.#waiting = take;
  }
}

const MAX = 1_000;
let socket: FakeSocket;
let tick: Tick;
let counters: { bytesSent: number; writes: number };
let overflows: number;
let outbox: Outbox;

beforeEach(() => {
  socket = new FakeSocket();
  tick = new Tick((error) => {
    throw error;
  });
  counters = { bytesSent: 0, writes: 0 };
  overflows = 0;
  outbox = outboxOf(MAX);
});

function outboxOf(maxBytes: number): Outbox {
  return new Outbox(socket, { tick, counters, maxBytes, onOverflow: () => overflows++ });
}

const bytes = (text: string) => Buffer.from(text);
const block = (size: number, letter = 'x') => Buffer.alloc(size, letter);

describe('an outbox', () => {
  it('writes the bytes of a tick in one write, in order, at its end', () => {
    for (const text of ['a', 'b', 'c']) outbox.push(bytes(text));
    expect(socket.writes).toBe(0);
    tick.flush();
    expect([socket.text, socket.writes]).toEqual(['abc', 1]);
    expect(counters).toEqual({ bytesSent: 3, writes: 1 });
    outbox.push(bytes('d'));
    tick.flush();
    expect([socket.text, socket.writes]).toEqual(['abcd', 2]);
    tick.flush();
    expect(socket.writes).toBe(2);
  });

  it('writes a single buffer without copying it', () => {
    const shared = bytes('shared');
    outbox.push(shared);
    tick.flush();
    expect(socket.written[0]).toBe(shared);
  });

  it('writes large data without concatenating it, still in one write and in order', () => {
    outbox = outboxOf(1_000_000);
    const parts = [block(40_000, 'a'), block(40_000, 'b'), block(1, 'c')];
    for (const part of parts) outbox.push(part);
    tick.flush();
    expect(socket.text).toBe(Buffer.concat(parts).toString());
    expect(socket.written[0]).toBe(parts[0]);
    expect([socket.writes <= 2, counters.writes, counters.bytesSent]).toEqual([true, 1, 80_001]);
  });

  it('writes the pushed bytes for any sizes and ticks', () => {
    const sizes = fc.array(fc.array(fc.nat({ max: 50_000 }), { maxLength: 6 }), { maxLength: 6 });
    fc.assert(
      fc.property(sizes, (ticks) => {
        const peer = new FakeSocket();
        const sending = new Outbox(peer, { tick, counters, maxBytes: 60_000, onOverflow: () => overflows++ });
        const pushed: Buffer[] = [];
        for (const parts of ticks) {
          for (const size of parts) {
            pushed.push(block(size, String.fromCharCode(97 + (pushed.length % 26))));
            sending.push(pushed.at(-1) ?? block(0));
          }
          tick.flush();
        }
        expect(Buffer.concat(peer.written).equals(Buffer.concat(pushed))).toBe(true);
        expect(overflows).toBe(0);
      }),
    );
  });

  it('writes the pushed bytes in order to a peer that reads now and then, and knows how many it has not taken', async () => {
    const steps = fc.array(fc.oneof(fc.nat({ max: 300_000 }), fc.constantFrom('stop', 'read')), {
      maxLength: 12,
    });
    await fc.assert(
      fc.asyncProperty(steps, async (taken) => {
        const peer = new FakeSocket();
        const sending = new Outbox(peer, {
          tick,
          counters,
          maxBytes: 10_000_000,
          onOverflow: () => overflows++,
        });
        const pushed: Buffer[] = [];
        for (const step of [...taken, 'read']) {
          if (step === 'stop') peer.isReading = false;
          else if (step === 'read') {
            peer.resumeReading();
            await new Promise((resolve) => setImmediate(resolve));
          } else if (typeof step === 'number') {
            pushed.push(block(step, String.fromCharCode(97 + pushed.length)));
            sending.push(pushed.at(-1) ?? block(0));
            tick.flush();
          }
          const left = Buffer.concat(pushed).length - Buffer.concat(peer.written).length;
          expect(sending.bufferedBytes).toBe(left);
        }
        expect(Buffer.concat(peer.written).equals(Buffer.concat(pushed))).toBe(true);
      }),
      { numRuns: 50 },
    );
  });

  it('sends more than the limit in one tick to a peer that reads', () => {
    for (let n = 0; n < 10; n++) outbox.push(block(400));
    outbox.push(block(5 * MAX));
    tick.flush();
    expect([socket.text.length, overflows]).toEqual([4_000 + 5 * MAX, 0]);
  });
});

describe('an outbox whose peer does not read', () => {
  beforeEach(() => {
    socket.isReading = false;
  });

  it('buffers up to the limit plus one tick, and sends it when the peer reads again', async () => {
    for (const size of [400, 600, 5 * MAX]) {
      outbox.push(block(size));
      tick.flush();
    }
    expect([overflows, outbox.bufferedBytes]).toEqual([0, 6 * MAX]);
    socket.resumeReading();
    await expect.poll(() => socket.text.length, { interval: 1 }).toBe(6 * MAX);
  });

  it('overflows once when more than the limit is left unread, and drops the queued bytes', () => {
    outbox.push(block(MAX + 1));
    tick.flush();
    outbox.push(bytes('!'));
    expect(overflows).toBe(0);
    tick.flush();
    expect(overflows).toBe(1);
    outbox.push(block(MAX));
    tick.flush();
    socket.resumeReading();
    expect([overflows, socket.text]).toEqual([1, 'x'.repeat(MAX + 1)]);
  });

  it('still gets the reason for the close behind the unread bytes', () => {
    const closing = new Outbox(socket, {
      tick,
      counters,
      maxBytes: MAX,
      onOverflow: () => closing.end(bytes('slow')),
    });
    closing.push(block(MAX + 1));
    tick.flush();
    closing.push(bytes('dropped'));
    tick.flush();
    closing.push(bytes('after'));
    tick.flush();
    socket.resumeReading();
    expect(socket.text).toBe(`${'x'.repeat(MAX + 1)}slow`);
  });
});

describe('a large message', () => {
  const LARGE = 1_000_000;
  beforeEach(() => {
    socket.isReading = false;
    outbox.pushPaced(block(LARGE));
    outbox.pushPaced(block(LARGE, 'y'));
    tick.flush();
  });

  it('leaves piece by piece, and counts as read from the second piece on', async () => {
    expect([outbox.bufferedBytes, outbox.drainedBytes]).toEqual([2 * LARGE, 0]);
    socket.resumeReading();
    socket.isReading = false;
    await new Promise((resolve) => setImmediate(resolve));
    expect(outbox.bufferedBytes).toBeLessThan(2 * LARGE);
    expect(outbox.drainedBytes).toBe(socket.text.length);
    socket.resumeReading();
    await expect.poll(() => outbox.bufferedBytes, { interval: 1 }).toBe(0);
    expect(outbox.drainedBytes).toBe(2 * LARGE);
  });

  it('is sent to its end when the outbox overflows, without those behind it', async () => {
    outbox.overflow();
    outbox.end(bytes('slow'));
    expect(overflows).toBe(1);
    socket.resumeReading();
    await expect.poll(() => socket.text, { interval: 1 }).toBe(`${'x'.repeat(LARGE)}slow`);
  });

  it('is forgotten when the socket breaks, and nothing is called back', async () => {
    let calls = 0;
    outbox.whenDrained(() => calls++);
    socket.on('error', () => undefined);
    socket.destroy();
    await new Promise((resolve) => setImmediate(resolve));
    expect([calls, socket.writes]).toEqual([0, 1]);
  });
});

describe('paced bytes', () => {
  beforeEach(() => {
    socket.isReading = false;
  });

  it('do not count against the limit while buffered in the socket; other bytes do', () => {
    outbox.pushPaced(block(10 * MAX));
    tick.flush();
    for (const size of [MAX, 1]) {
      outbox.push(block(size));
      tick.flush();
    }
    expect(overflows).toBe(0);
    outbox.push(bytes('!'));
    tick.flush();
    expect(overflows).toBe(1);
  });

  it('call back once when drained, whether queued here or buffered in the socket', async () => {
    const drained: string[] = [];
    outbox.pushPaced(block(10));
    outbox.whenDrained(() => drained.push('from here'));
    tick.flush();
    outbox.whenDrained(() => drained.push('from the socket'));
    expect([outbox.bufferedBytes, drained]).toEqual([10, []]);
    socket.isReading = true;
    socket.resumeReading();
    await expect.poll(() => drained, { interval: 1 }).toEqual(['from here', 'from the socket']);
    expect(outbox.bufferedBytes).toBe(0);
    outbox.whenDrained(() => drained.push('at once'));
    expect(drained).toHaveLength(3);
  });

  it('do not call back after the end', () => {
    let calls = 0;
    outbox.pushPaced(block(10));
    tick.flush();
    outbox.whenDrained(() => calls++);
    outbox.end(bytes('bye'));
    socket.resumeReading();
    expect(calls).toBe(0);
  });
});

describe('the end of an outbox', () => {
  it('writes the queued and the last bytes at once, and nothing after them', () => {
    outbox.push(bytes('a'));
    outbox.push(bytes('b'));
    outbox.end(bytes('bye'));
    expect([socket.text, socket.writes]).toEqual(['abbye', 1]);
    outbox.push(bytes('c'));
    outbox.end(bytes('again'));
    tick.flush();
    expect(socket.text).toBe('abbye');
    expect(counters).toEqual({ bytesSent: 5, writes: 1 });
  });

  it('may come before any other bytes', () => {
    outbox.end(bytes('bye'));
    tick.flush();
    expect(socket.text).toBe('bye');
  });
});
