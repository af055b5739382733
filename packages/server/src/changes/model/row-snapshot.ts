/** Says which transactions a SELECT saw. Parses the text of pg_snapshot: `xmin:xmax:xip,xip`. */
export class RowSnapshot {
  /** All transactions before this xid have ended. */
  readonly xmin: bigint;
  readonly #xmax: bigint;
  readonly #running: ReadonlySet<bigint>;

  constructor(text: string) {
    const [xmin = '', xmax = '', running = ''] = text.split(':');
    this.xmin = BigInt(xmin);
    this.#xmax = BigInt(xmax);
    this.#running = new Set(running === '' ? [] : running.split(',').map(BigInt));
  }

  /** The transactions that were running, as 32-bit xids: the form that the WAL uses. */
  get running(): readonly number[] {
    return [...this.#running].map((xid) => Number(xid & 0xffff_ffffn));
  }

  /** Whether the SELECT saw what this transaction did. `xid`: the 32-bit xid, as the WAL has it. */
  sees(xid: number): boolean {
    const full = this.#fullXid(xid);
    return full < this.xmin || (full < this.#xmax && !this.#running.has(full));
  }

  /**
   * Extends a 32-bit xid to the 64-bit xid that is nearest to the snapshot's xmax: 32-bit xids wrap around.
   */
  #fullXid(xid: number): bigint {
    const candidate = (this.#xmax & ~0xffff_ffffn) | BigInt(xid);
    if (candidate - this.#xmax > 0x7fff_ffffn) return candidate - 0x1_0000_0000n;
    if (this.#xmax - candidate > 0x7fff_ffffn) return candidate + 0x1_0000_0000n;
    return candidate;
  }
}
