import type { Duplex } from 'node:stream';

/** The most that is written to a socket at once, in bytes. */
export const WRITE_BYTES = 128 * 1024;
/** Concatenating copies; from this size on, several corked writes are cheaper. */
const CONCAT_BELOW_BYTES = 64 * 1024;

/** Written behind other bytes; its callback runs when they have left the socket. */
const EMPTY = Buffer.alloc(0);

/**
 * Holds what a socket does not take at once, and writes it piece by piece. A socket reports a write only when all of it
 * has left: a message of 20 MB in one write would look like a peer that reads nothing.
 */
export class Backlog {
  readonly #socket: Duplex;
  #queue: Buffer[] = [];
  /** How many bytes of the first buffer were written. */
  #offset = 0;
  #bytes = 0;
  #drainedBytes = 0;
  #isWaiting = false;
  /** The bytes in the socket since which it has taken nothing. */
  #inSocket = 0;
  #writtenBytes = 0;
  /** Callbacks, each with the value of `#writtenBytes` that it awaits, in this order. */
  #awaiting: { readonly writtenBytes: number; readonly callback: () => void }[] = [];

  constructor(socket: Duplex) {
    this.#socket = socket;
  }

  /** The bytes that were not written to the socket yet. */
  get bytes(): number {
    return this.#bytes;
  }

  /**
   * How many bytes have left while the system's buffer was full: it takes more only as the peer acknowledges what it has
   * got. The bytes that fill the buffer tell nothing of the peer, and do not count.
   */
  get drainedBytes(): number {
    return this.#drainedBytes;
  }

  /** Appends buffers, each of which holds whole frames, and writes as much as the socket takes. */
  write(buffers: readonly Buffer[], bytes: number): void {
    for (const buffer of buffers) this.#queue.push(buffer);
    this.#bytes += bytes;
    this.#proceed();
  }

  /** Calls back, in a later tick, when all bytes so far have left the socket; never after an error of the socket. */
  whenWritten(callback: () => void): void {
    this.#awaiting.push({ writtenBytes: this.#writtenBytes + this.#bytes, callback });
    this.#proceed();
  }

  /** Drops everything but the rest of a buffer that was written in part: a peer can still read what follows it. */
  dropWhole(): void {
    const kept = this.#offset === 0 ? 0 : 1;
    this.#queue.length = kept;
    this.#bytes = (this.#queue[0]?.length ?? 0) - this.#offset;
  }

  /** Returns the bytes that were not written, which it no longer holds. */
  takeAll(): readonly Buffer[] {
    const [first, ...rest] = this.#queue;
    const all = first === undefined ? [] : [first.subarray(this.#offset), ...rest];
    this.#clear();
    return all;
  }

  /** Writes until the socket takes no more at once, and goes on when it does. */
  #proceed(): void {
    if (this.#isWaiting) return;
    while (this.#bytes > 0 && this.#socket.writableLength === 0) this.#writePiece();
    if (this.#bytes === 0 && this.#awaiting.length === 0) return;
    this.#isWaiting = true;
    this.#inSocket = this.#socket.writableLength;
    this.#socket.write(EMPTY, (error) => this.#emptied(error));
  }

  #emptied(error: Error | null | undefined): void {
    this.#isWaiting = false;
    if (error) {
      this.#clear();
      return;
    }
    const wasFull = this.#inSocket > 0;
    this.#drainedBytes += this.#inSocket;
    const left = this.#writtenBytes;
    const due = this.#awaiting.filter(({ writtenBytes }) => writtenBytes <= left);
    if (due.length > 0) this.#awaiting = this.#awaiting.slice(due.length);
    const before = this.#bytes;
    this.#proceed();
    const written = before - this.#bytes;
    // The peer has made room for what was taken at once, too.
    if (wasFull && written > 0) this.#drainedBytes += written - this.#socket.writableLength;
    for (const { callback } of due) callback();
  }

  #writePiece(): void {
    const [first] = this.#queue;
    if (first === undefined) return;
    if (first.length - this.#offset > WRITE_BYTES) {
      this.#socket.write(first.subarray(this.#offset, this.#offset + WRITE_BYTES));
      this.#offset += WRITE_BYTES;
      this.#written(WRITE_BYTES);
      return;
    }
    let bytes = first.length - this.#offset;
    let count = 1;
    for (
      let next = this.#queue[1];
      next !== undefined && bytes + next.length <= WRITE_BYTES;
      next = this.#queue[count]
    ) {
      bytes += next.length;
      count += 1;
    }
    const piece = this.#queue.splice(0, count);
    piece[0] = first.subarray(this.#offset);
    this.#offset = 0;
    writeTogether(this.#socket, piece, bytes);
    this.#written(bytes);
  }

  #written(bytes: number): void {
    this.#bytes -= bytes;
    this.#writtenBytes += bytes;
  }

  #clear(): void {
    this.#queue = [];
    this.#offset = 0;
    this.#bytes = 0;
    this.#awaiting = [];
  }
}

/** Writes buffers of `bytes` bytes in all in one write of the system. */
export function writeTogether(socket: Duplex, buffers: readonly Buffer[], bytes: number): void {
  const [first] = buffers;
  if (first === undefined) return;
  if (buffers.length === 1) socket.write(first);
  else if (bytes < CONCAT_BELOW_BYTES) socket.write(Buffer.concat(buffers, bytes));
  else {
    socket.cork();
    for (const buffer of buffers) socket.write(buffer);
    socket.uncork();
  }
}
