import type { Duplex } from 'node:stream';
import type { Flushable, Tick } from '../lib/tick.js';

/** Counts bytes and writes of outboxes; read when metrics are scraped. */
export interface OutboxCounters {
  bytesSent: number;
  writes: number;
}

export interface OutboxOptions {
  readonly tick: Tick;
  readonly counters: OutboxCounters;
  /** Bytes of earlier ticks that may be buffered in the socket; more make the client a slow consumer. */
  readonly maxBytes: number;
  /** Called once, when more than `maxBytes` are buffered. */
  readonly onOverflow: () => void;
}

/** Concatenating copies; from this size on, several corked writes are cheaper. */
const CONCAT_BELOW_BYTES = 64 * 1024;

/** Written behind other bytes; its callback runs when they have drained. */
const EMPTY = Buffer.alloc(0);

/**
 * Queues the outgoing bytes of one connection in order, and writes those of one tick of the event loop in one
 * write. Holds references to shared Buffers, not copies.
 */
export class Outbox implements Flushable {
  readonly #socket: Duplex;
  readonly #options: OutboxOptions;
  /** Usually there is one shared Buffer only, which needs no array. */
  #first: Buffer | undefined;
  #rest: Buffer[] | undefined;
  #bytes = 0;
  /** Paced bytes among the queued ones, and paced bytes that the socket may still buffer. */
  #paced = 0;
  #pacedInSocket = 0;
  #onDrained: (() => void) | undefined;
  #state: 'open' | 'overflowed' | 'ended' = 'open';

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

  /** Bytes queued here or buffered in the socket. */
  get bufferedBytes(): number {
    return this.#bytes + this.#socket.writableLength;
  }

  /** Like `push`, for callers that await `whenDrained` between pushes: does not count against the limit. */
  pushPaced(bytes: Buffer): void {
    if (this.#state !== 'open') return;
    this.#paced += bytes.length;
    this.push(bytes);
  }

  /** Calls back once the bytes queued now have drained to the system; at once when there are none. */
  whenDrained(callback: () => void): void {
    if (this.#first !== undefined) this.#onDrained = callback;
    else if (this.#socket.writableLength > 0) this.#socket.write(EMPTY, () => this.#drained(callback));
    else this.#drained(callback);
  }

  /**
   * Writes all queued bytes at once. Only bytes of earlier ticks still in the socket count against the limit:
   * the peer has had no time to read those written now.
   */
  flush(): void {
    const first = this.#first;
    if (first === undefined) return;
    const inSocket = this.#socket.writableLength;
    if (inSocket === 0) this.#pacedInSocket = 0;
    if (inSocket - this.#pacedInSocket > this.#options.maxBytes) this.overflow();
    else this.#write(first);
  }

  /** Writes the queued bytes, if not dropped by an overflow, and `last` now, and accepts no more. */
  end(last: Buffer): void {
    if (this.#state === 'ended') return;
    this.#state = 'ended';
    if (this.#first === undefined) this.#first = last;
    else if (this.#rest === undefined) this.#rest = [last];
    else this.#rest.push(last);
    this.#bytes += last.length;
    this.#write(this.#first);
  }

  /** Drops the queued bytes and calls `onOverflow`. Also called for a paced peer that makes no progress. */
  overflow(): void {
    if (this.#state !== 'open') return;
    this.#state = 'overflowed';
    this.#clear();
    this.#options.onOverflow();
  }

  #write(first: Buffer): void {
    const { counters } = this.#options;
    counters.bytesSent += this.#bytes;
    counters.writes += 1;
    if (this.#rest === undefined) this.#socket.write(first);
    else if (this.#bytes < CONCAT_BELOW_BYTES)
      this.#socket.write(Buffer.concat([first, ...this.#rest], this.#bytes));
    else {
      this.#socket.cork();
      this.#socket.write(first);
      for (const part of this.#rest) this.#socket.write(part);
      this.#socket.uncork();
    }
    const onDrained = this.#onDrained;
    if (onDrained !== undefined) this.#socket.write(EMPTY, () => this.#drained(onDrained));
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
