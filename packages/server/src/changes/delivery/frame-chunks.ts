import type { MessageList } from '../routing/group-deliveries.js';

/** Messages are joined up to this size: few pushes for many small ones, and no long copies of large ones. */
const CHUNK_BYTES = 64 * 1024;

/** Makes the bytes of lists of messages, once for all groups that share a list. */
export class FrameChunks {
  readonly #made = new Map<MessageList, readonly Buffer[]>();

  /** The messages of several tables, in the order of their changes. */
  of(lists: readonly MessageList[]): readonly Buffer[] {
    const [first] = lists;
    if (first === undefined) return [];
    if (lists.length > 1) return join(lists.flat().sort((a, b) => a.batchIndex - b.batchIndex));
    let chunks = this.#made.get(first);
    if (chunks === undefined) {
      chunks = join(first);
      this.#made.set(first, chunks);
    }
    return chunks;
  }
}

function join(list: MessageList): readonly Buffer[] {
  const chunks: Buffer[] = [];
  let open: Buffer[] = [];
  let bytes = 0;
  const close = () => {
    const [first] = open;
    if (first !== undefined) chunks.push(open.length === 1 ? first : Buffer.concat(open, bytes));
    open = [];
    bytes = 0;
  };
  for (const { frame } of list) {
    if (bytes > 0 && bytes + frame.length > CHUNK_BYTES) close();
    open.push(frame);
    bytes += frame.length;
  }
  close();
  return chunks;
}
