import type { MessageList } from '../routing/group-deliveries.js';

/**
 * The size up to which messages are joined, in bytes: small messages need few pushes, large ones are not
 * copied.
 */
const CHUNK_BYTES = 64 * 1024;

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
    const [first] = pending;
    if (first !== undefined) chunks.push(pending.length === 1 ? first : Buffer.concat(pending, bytes));
    pending = [];
    bytes = 0;
  };
  for (const { frame } of list) {
    if (bytes > 0 && bytes + frame.length > CHUNK_BYTES) flush();
    pending.push(frame);
    bytes += frame.length;
  }
  flush();
  return chunks;
}
