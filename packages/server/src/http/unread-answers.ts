import type { Socket } from 'node:net';

/** The part of a socket's handle that knows which bytes the system has taken. */
interface Handle {
  /** Bytes passed to the handle. */
  readonly bytesWritten?: number;
  /** Those of them that the system has not taken. */
  readonly writeQueueSize?: number;
}

/**
 * Returns the number of bytes that the system has taken from the socket. The socket itself counts a write only
 * once all of it is taken, and one answer is one write: a slow reader of a large one would seem to read
 * nothing.
 */
function bytesTaken(socket: Socket): number {
  const { bytesWritten, writeQueueSize } =
    (socket as Socket & { readonly _handle?: Handle | null })._handle ?? {};
  return bytesWritten === undefined || writeQueueSize === undefined
    ? socket.bytesWritten - socket.writableLength
    : bytesWritten - writeQueueSize;
}

/** Counts for how many checks in a row a socket's peer has read nothing of what waits for it. */
export class UnreadAnswer {
  #taken = 0;
  #checks = 0;

  /** Returns the number of checks without progress, 0 if nothing waits. */
  check(socket: Socket): number {
    const taken = bytesTaken(socket);
    const isRead = socket.writableLength === 0 || taken > this.#taken;
    this.#taken = taken;
    this.#checks = isRead ? 0 : this.#checks + 1;
    return this.#checks;
  }
}
