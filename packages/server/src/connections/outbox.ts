import type { Duplex } from 'node:stream';
import type { Flushable, Tick } from '../lib/tick.js';

/** Counts the bytes that outboxes write; read when metrics are scraped. */
export interface OutboxCounters {
  bytesSent: number;
  writes: number;
}

export interface OutboxOptions {
  readonly tick: Tick;
  readonly counters: OutboxCounters;
  /** Bytes that may wait in the socket, from earlier turns, before the connection counts as a slow consumer. */
  readonly maxBytes: number;
  /** Called once, when more than `maxBytes` wait. */
  readonly onOverflow: () => void;
}

/** Joining copies; above this it is cheaper to hand the socket several Buffers at once. */
const JOIN_BELOW_BYTES = 64 * 1024;

/** Written behind others to learn when they have left. */
const NOTHING = Buffer.alloc(0);

/**
 * The send queue of one connection: every byte that goes out passes here, in order, and everything that
 * gathered in a turn of the event loop is one write. It holds references to shared Buffers, not copies.
 */
export class Outbox implements Flushable {
  readonly #socket: Duplex;
  readonly #options: OutboxOptions;
  /** Mostly one shared Buffer, so no array is made for it. */
  #first: Buffer | undefined;
  #rest: Buffer[] | undefined;
  #bytes = 0;
  /** How many of these were pushed at the pace of the peer, and how many such bytes the socket may still hold. */
  #paced = 0;
  #pacedInSocket = 0;
  #onDrained: (() => void) | undefined;
  #state: 'open' | 'overflown' | 'ended' = 'open';

  constructor(socket: Duplex, options: OutboxOptions) {
    this.#socket = socket;
    this.#options = options;
  }

  push(bytes: Buffer): void {
    if (this.#state !== 'open') return;
    if (this.#first === undefined) {
      this.#first = bytes;
      this.#options.tick.add('outboxes', this);
    } else if (this.#rest === undefined) this.#rest = [bytes];
    else this.#rest.push(bytes);
    this.#bytes += bytes.length;
  }

  /** Bytes that wait here or in the socket. */
  get waiting(): number {
    return this.#bytes + this.#socket.writableLength;
  }

  /** As push, for whoever waits for `whenDrained` before handing over more: these bytes do not count against the limit. */
  pushPaced(bytes: Buffer): void {
    if (this.#state !== 'open') return;
    this.#paced += bytes.length;
    this.push(bytes);
  }

  /** Calls back once, when what waits now has left for the system; at once when nothing does. */
  whenDrained(callback: () => void): void {
    if (this.#first !== undefined) this.#onDrained = callback;
    else if (this.#socket.writableLength > 0) this.#socket.write(NOTHING, () => this.#drained(callback));
    else this.#drained(callback);
  }

  /** The peer is too slow for whoever paces it: as if too much had waited. */
  giveUp(): void {
    this.#overflow();
  }

  /**
   * One write of all that waits. Only what earlier turns have left in the socket counts against the limit: what
   * is written now nobody has had the time to read.
   */
  flush(): void {
    const first = this.#first;
    if (first === undefined) return;
    const inSocket = this.#socket.writableLength;
    if (inSocket === 0) this.#pacedInSocket = 0;
    if (inSocket - this.#pacedInSocket > this.#options.maxBytes) this.#overflow();
    else this.#write(first);
  }

  /** Writes what waits and `last` now, and takes no more. After an overflow only `last` is left to write. */
  end(last: Buffer): void {
    if (this.#state === 'ended') return;
    this.#state = 'ended';
    if (this.#first === undefined) this.#first = last;
    else if (this.#rest === undefined) this.#rest = [last];
    else this.#rest.push(last);
    this.#bytes += last.length;
    this.#write(this.#first);
  }

  #overflow(): void {
    if (this.#state !== 'open') return;
    this.#state = 'overflown';
    this.#clear();
    this.#options.onOverflow();
  }

  #write(first: Buffer): void {
    const { counters } = this.#options;
    counters.bytesSent += this.#bytes;
    counters.writes += 1;
    if (this.#rest === undefined) this.#socket.write(first);
    else if (this.#bytes < JOIN_BELOW_BYTES)
      this.#socket.write(Buffer.concat([first, ...this.#rest], this.#bytes));
    else {
      this.#socket.cork();
      this.#socket.write(first);
      for (const part of this.#rest) this.#socket.write(part);
      this.#socket.uncork();
    }
    const onDrained = this.#onDrained;
    if (onDrained !== undefined) this.#socket.write(NOTHING, () => this.#drained(onDrained));
    this.#pacedInSocket += this.#paced;
    this.#clear();
  }

  #drained(callback: () => void): void {
    if (this.#state === 'open') callback();
  }

  #clear(): void {
    this.#first = undefined;
    this.#rest = undefined;
    this.#bytes = 0;
    this.#paced = 0;
    this.#onDrained = undefined;
  }
}
