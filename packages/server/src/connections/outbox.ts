import type { Duplex } from 'node:stream';
import type { Flushable, Tick } from '../lib/tick.js';
import { Backlog, WRITE_BYTES, writeTogether } from './backlog.js';

/** Counts bytes and writes of outboxes; read when metrics are scraped. */
export interface OutboxCounters {
  bytesSent: number;
  writes: number;
}

export interface OutboxOptions {
  readonly tick: Tick;
  readonly counters: OutboxCounters;
  /** Bytes of earlier ticks that may be unread; more make the client a slow consumer. */
  readonly maxBytes: number;
  /** Called once, when more than `maxBytes` are unread. */
  readonly onOverflow: () => void;
}

/**
 * Queues the outgoing bytes of one connection in order, and writes those of one tick of the event loop in one
 * write, unless they are many or the peer does not keep up. Holds references to shared Buffers, not copies.
 */
export class Outbox implements Flushable {
  readonly #socket: Duplex;
  readonly #options: OutboxOptions;
  /** Usually there is one shared Buffer only, which needs no array. */
  #first: Buffer | undefined;
  #rest: Buffer[] | undefined;
  #bytes = 0;
  /** Paced bytes among the queued ones, and those of earlier ticks that may be unread. */
  #paced = 0;
  #pacedUnread = 0;
  /** Created for the first bytes that the socket does not take at once. */
  #backlog: Backlog | undefined;
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
    return this.#bytes + this.#unread;
  }

  /** How many bytes the peer has made room for while others had to wait. */
  get drainedBytes(): number {
    return this.#backlog?.drainedBytes ?? 0;
  }

  /** Bytes of earlier ticks that the system has not taken. */
  get #unread(): number {
    return (this.#backlog?.bytes ?? 0) + this.#socket.writableLength;
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
    else if (this.#unread > 0) this.#whenWritten(callback);
    else this.#drained(callback);
  }

  /**
   * Writes all queued bytes, or as many as the socket takes at once. Only bytes of earlier ticks count against the limit:
   * the peer has had no time to read those written now.
   */
  flush(): void {
    const first = this.#first;
    if (first === undefined) return;
    const unread = this.#unread;
    this.#pacedUnread = Math.min(this.#pacedUnread, unread);
    if (unread - this.#pacedUnread > this.#options.maxBytes) this.overflow();
    else this.#write(first, unread);
  }

  /** Writes the bytes that wait, if not dropped by an overflow, and `last` now, and accepts no more. */
  end(last: Buffer): void {
    if (this.#state === 'ended') return;
    this.#state = 'ended';
    const queued = this.#first === undefined ? [] : this.#parts(this.#first);
    const { counters } = this.#options;
    counters.bytesSent += this.#bytes + last.length;
    counters.writes += 1;
    const all = [...(this.#backlog?.takeAll() ?? []), ...queued, last];
    this.#clear();
    writeTogether(
      this.#socket,
      all,
      all.reduce((sum, { length }) => sum + length, 0),
    );
  }

  /**
   * Drops the bytes that wait, but for the rest of a message that the peer has begun to receive, and calls `onOverflow`.
   * Also called for a paced peer that reads too slowly.
   */
  overflow(): void {
    if (this.#state !== 'open') return;
    this.#state = 'overflowed';
    this.#clear();
    this.#backlog?.dropWhole();
    this.#options.onOverflow();
  }

  #write(first: Buffer, unread: number): void {
    const { counters } = this.#options;
    counters.bytesSent += this.#bytes;
    counters.writes += 1;
    if (unread > 0 || this.#bytes > WRITE_BYTES)
      this.#startedBacklog().write(this.#parts(first), this.#bytes);
    else if (this.#rest === undefined) this.#socket.write(first);
    else writeTogether(this.#socket, this.#parts(first), this.#bytes);
    const onDrained = this.#onDrained;
    if (onDrained !== undefined) this.#whenWritten(onDrained);
    this.#pacedUnread += this.#paced;
    this.#clear();
  }

  #parts(first: Buffer): readonly Buffer[] {
    return this.#rest === undefined ? [first] : [first, ...this.#rest];
  }

  #startedBacklog(): Backlog {
    this.#backlog ??= new Backlog(this.#socket);
    return this.#backlog;
  }

  #whenWritten(callback: () => void): void {
    this.#startedBacklog().whenWritten(() => this.#drained(callback));
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
