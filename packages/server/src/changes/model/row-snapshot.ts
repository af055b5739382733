/** The transactions that a SELECT saw, as PostgreSQL writes it: `xmin:xmax:xip,xip` (pg_snapshot). */
export class RowSnapshot {
  readonly #xmin: bigint;
  readonly #xmax: bigint;
  readonly #running: ReadonlySet<bigint>;

  constructor(text: string) {
    const [xmin = '', xmax = '', running = ''] = text.split(':');
    this.#xmin = BigInt(xmin);
    this.#xmax = BigInt(xmax);
    this.#running = new Set(running === '' ? [] : running.split(',').map(BigInt));
  }

  /** The lower halves of the transactions that were running, as the log names them. */
  get running(): readonly number[] {
    return [...this.#running].map((xid) => Number(xid & 0xffff_ffffn));
  }

  /** Whether the SELECT saw what this transaction did; `xid`: the lower half of its number, as the log has it. */
  sees(xid: number): boolean {
    const full = this.#fullOf(xid);
    return full < this.#xmin || (full < this.#xmax && !this.#running.has(full));
  }

  /** The number that is nearest to the snapshot's. */
  #fullOf(xid: number): bigint {
    const candidate = (this.#xmax & ~0xffff_ffffn) | BigInt(xid);
    if (candidate - this.#xmax > 0x7fff_ffffn) return candidate - 0x1_0000_0000n;
    if (this.#xmax - candidate > 0x7fff_ffffn) return candidate + 0x1_0000_0000n;
    return candidate;
  }
}
