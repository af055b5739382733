import type { FrameList } from './groups.js';

/** Messages are joined up to this size: few pushes for many small ones, and no long copies of large ones. */
const PIECE_BYTES = 64 * 1024;

/** Makes the bytes of lists of messages, once for all groups that share a list. */
export class Pieces {
  readonly #made = new Map<FrameList, readonly Buffer[]>();

  /** The messages of several tables, in the order of their changes. */
  of(lists: readonly FrameList[]): readonly Buffer[] {
    const [first] = lists;
    if (first === undefined) return [];
    if (lists.length > 1) return join(lists.flat().sort((a, b) => a.position - b.position));
    let pieces = this.#made.get(first);
    if (pieces === undefined) {
      pieces = join(first);
      this.#made.set(first, pieces);
    }
    return pieces;
  }
}

function join(list: FrameList): readonly Buffer[] {
  const pieces: Buffer[] = [];
  let open: Buffer[] = [];
  let bytes = 0;
  const close = () => {
    const [first] = open;
    if (first !== undefined) pieces.push(open.length === 1 ? first : Buffer.concat(open, bytes));
    open = [];
    bytes = 0;
  };
  for (const { frame } of list) {
    if (bytes > 0 && bytes + frame.length > PIECE_BYTES) close();
    open.push(frame);
    bytes += frame.length;
  }
  close();
  return pieces;
}
