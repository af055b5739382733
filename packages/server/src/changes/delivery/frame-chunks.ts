import type { MessageList } from '../routing/group-deliveries.js';

/**
 * The size up to which messages are joined, in bytes: small messages need few pushes, large ones are not
 * copied.
 */
const CHUNK_BYTES = 64 * 1024;
/** Chunks of adjacent messages, which are not copied, are at least of this size. */
const MIN_ADJACENT_BYTES = 16 * 1024;

/** Joins the messages of a list into chunks of bytes, once for all groups that share the list. */
export class FrameChunks {
  readonly #chunksByList = new Map<MessageList, readonly Buffer[]>();

  /** Returns the chunks of several tables' messages, in the order of their changes. */
  of(lists: readonly MessageList[]): readonly Buffer[] {
    const [first] = lists;
    if (first === undefined) return [];
    if (lists.length > 1) return joinFrames(lists.flat().sort((a, b) => a.batchIndex - b.batchIndex));
    let chunks = this.#chunksByList.get(first);
    if (chunks === undefined) {
      chunks = joinFrames(first);
      this.#chunksByList.set(first, chunks);
    }
    return chunks;
  }
}

function joinFrames(list: MessageList): readonly Buffer[] {
  const chunks: Buffer[] = [];
  let pending: Buffer[] = [];
  let bytes = 0;
  const flush = () => {
    if (pending.length > 0) chunks.push(joined(pending, bytes));
    pending = [];
    bytes = 0;
  };
  for (const { frame } of list) {
    const last = pending.at(-1);
    const endsHere = bytes >= MIN_ADJACENT_BYTES && last !== undefined && !areAdjacent(last, frame);
    if (endsHere || (bytes > 0 && bytes + frame.length > CHUNK_BYTES)) flush();
    pending.push(frame);
    bytes += frame.length;
  }
  flush();
  return chunks;
}

/** Whether one follows the other in the same memory. */
function areAdjacent(a: Buffer, b: Buffer): boolean {
  return a.buffer === b.buffer && a.byteOffset + a.length === b.byteOffset;
}

/** Joins frames of `bytes` in all: without a copy, if they are adjacent. */
function joined(frames: readonly Buffer[], bytes: number): Buffer {
  const [first] = frames;
  if (first === undefined) return Buffer.alloc(0);
  const isRun = frames.every((frame, n) => n === 0 || areAdjacent(frames[n - 1] ?? frame, frame));
  return isRun ? Buffer.from(first.buffer, first.byteOffset, bytes) : Buffer.concat(frames, bytes);
}
