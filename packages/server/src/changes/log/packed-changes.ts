import type { WalBegin, WalRelation } from '../../postgres/source/change-source.js';
import { comparePositions, laterOf, type Position } from '../model/position.js';

/** A change as it came, where it stands among bytes; decoded when it is its turn. */
export type StreamedChange = TableChange | StreamedMessage;

interface Streamed {
  readonly transaction: WalBegin;
  /** Its place in the transaction, counted over all that was sent, from 0. */
  readonly index: number;
}

/** Something is between `start` and `end` in `bytes`. */
interface Bytes {
  readonly bytes: Buffer;
  readonly start: number;
  readonly end: number;
}

/** A change of a table; of a row it has the pgoutput message. */
export type TableChange = Streamed & { readonly relation: WalRelation } & (
    | ({ readonly kind: 'insert' | 'update' | 'delete' } & Bytes)
    | { readonly kind: 'truncate' }
  );

/** What `realtime.send` put into the log. */
export type StreamedMessage = Streamed & { readonly kind: 'message' } & Bytes;

/** Stands for messages where tables have their oid: no table has it. */
export const MESSAGES = 0;

/** What stands before an entry's own bytes. The number of a kind is its place here. */
const KINDS = ['transaction', 'insert', 'update', 'delete', 'truncate', 'message'] as const;
type Kind = (typeof KINDS)[number];
const NUMBERS = Object.fromEntries(KINDS.map((kind, number) => [kind, number])) as Record<Kind, number>;
/** A tag, then commit LSN, commit time and xid. */
const TRANSACTION_BYTES = 1 + 8 + 8 + 4;
/** A tag, then the relation's number, the change's index and the length of its message. */
const CHANGE_BYTES = 1 + 2 + 4 + 4;
const FIRST_BYTES = 1024;
/** The number of what is no change of a table. */
const NO_RELATION = 0xffff;

/**
 * Changes one behind the other in one piece of memory, with the transactions that they belong to: a million small
 * changes are a few buffers, which cost the garbage collector nothing and can be written to a file as they are.
 */
export class PackedChanges {
  readonly #relations: WalRelation[] = [];
  /** Where the last change of each relation stands, in their order. */
  readonly #lasts: Position[] = [];
  readonly #numbers = new Map<WalRelation, number>();
  #bytes: Buffer;
  #length = 0;
  #count = 0;
  #transaction: WalBegin | undefined;
  #lastMessage: Position | undefined;
  #first: Position | undefined;
  #last: Position | undefined;

  constructor() {
    this.#bytes = Buffer.allocUnsafe(FIRST_BYTES);
  }

  /** How many changes. */
  get count(): number {
    return this.#count;
  }

  /** How many bytes they take. */
  get length(): number {
    return this.#length;
  }

  /** Where the first and the last stand; not while there is none. */
  get first(): Position {
    return known(this.#first);
  }

  get last(): Position {
    return known(this.#last);
  }

  get relations(): readonly WalRelation[] {
    return this.#relations;
  }

  /** Where the last change of each table stands, by oid, and under MESSAGES the last message. */
  lastByTable(): ReadonlyMap<number, Position> {
    const lasts = new Map<number, Position>();
    for (const [number, { oid }] of this.#relations.entries()) {
      const last = known(this.#lasts[number]);
      const other = lasts.get(oid);
      lasts.set(oid, other === undefined ? last : laterOf(last, other));
    }
    if (this.#lastMessage !== undefined) lasts.set(MESSAGES, this.#lastMessage);
    return lasts;
  }

  /** The bytes, to be kept elsewhere; `read` takes them back. */
  get bytes(): Buffer {
    return this.#bytes.subarray(0, this.#length);
  }

  /** Adds a change behind all others. */
  add(
    kind: StreamedChange['kind'],
    relation: WalRelation | undefined,
    transaction: WalBegin,
    index: number,
    message?: Buffer,
  ): void {
    if (this.#transaction !== transaction) this.#addTransaction(transaction);
    const size = message?.length ?? 0;
    const at = this.#reserve(CHANGE_BYTES + size);
    const bytes = this.#bytes;
    bytes[at] = NUMBERS[kind];
    const number = relation === undefined ? NO_RELATION : this.#numberOf(relation);
    bytes.writeUInt16BE(number, at + 1);
    bytes.writeUInt32BE(index, at + 3);
    bytes.writeUInt32BE(size, at + 7);
    message?.copy(bytes, at + CHANGE_BYTES);
    this.#count += 1;
    this.#last = { commitLsn: transaction.commitLsn, index };
    this.#first ??= this.#last;
    if (relation === undefined) this.#lastMessage = this.#last;
    else this.#lasts[number] = this.#last;
  }

  /** Adds all of another one behind these. */
  addAll(other: PackedChanges): void {
    for (const change of other.read()) {
      const { kind, transaction, index } = change;
      const message = kind === 'truncate' ? undefined : change.bytes.subarray(change.start, change.end);
      this.add(kind, kind === 'message' ? undefined : change.relation, transaction, index, message);
    }
  }

  /** Gives back the memory that nothing is in. */
  trim(): void {
    if (this.#length < this.#bytes.length * 0.75) this.#bytes = Buffer.from(this.bytes);
  }

  /** The memory is let go: the bytes are kept elsewhere, and come back with `read`. */
  release(): void {
    this.#bytes = Buffer.alloc(0);
  }

  /** The changes behind a position (missing: all), of `bytes` where they were kept elsewhere. */
  read(after?: Position, bytes: Buffer = this.#bytes): StreamedChange[] {
    const changes: StreamedChange[] = [];
    let transaction: WalBegin | undefined;
    for (let at = 0; at < this.#length; ) {
      const kind = KINDS[bytes[at] ?? -1];
      if (kind === 'transaction') {
        transaction = {
          commitLsn: bytes.readBigUInt64BE(at + 1),
          commitTime: bytes.readBigInt64BE(at + 9),
          xid: bytes.readUInt32BE(at + 17),
        };
        at += TRANSACTION_BYTES;
        continue;
      }
      if (kind === undefined || transaction === undefined)
        throw new Error('packed changes that cannot be read');
      const relation = this.#relations[bytes.readUInt16BE(at + 1)];
      const index = bytes.readUInt32BE(at + 3);
      const start = at + CHANGE_BYTES;
      at = start + bytes.readUInt32BE(at + 7);
      const { commitLsn } = transaction;
      if (after !== undefined && comparePositions({ commitLsn, index }, after) <= 0) continue;
      if (kind === 'message') changes.push({ transaction, index, kind, bytes, start, end: at });
      else if (relation === undefined) throw new Error('a change without its relation');
      else if (kind === 'truncate') changes.push({ transaction, index, relation, kind });
      else changes.push({ transaction, index, relation, kind, bytes, start, end: at });
    }
    return changes;
  }

  #addTransaction(transaction: WalBegin): void {
    const at = this.#reserve(TRANSACTION_BYTES);
    this.#bytes[at] = NUMBERS.transaction;
    this.#bytes.writeBigUInt64BE(transaction.commitLsn, at + 1);
    this.#bytes.writeBigInt64BE(transaction.commitTime, at + 9);
    this.#bytes.writeUInt32BE(transaction.xid, at + 17);
    this.#transaction = transaction;
  }

  #numberOf(relation: WalRelation): number {
    let number = this.#numbers.get(relation);
    if (number === undefined) {
      number = this.#relations.push(relation) - 1;
      this.#numbers.set(relation, number);
    }
    return number;
  }

  /** Makes room for so many bytes and answers where they begin. */
  #reserve(size: number): number {
    const at = this.#length;
    this.#length += size;
    if (this.#length > this.#bytes.length) {
      const larger = Buffer.allocUnsafe(Math.max(this.#length, this.#bytes.length * 2));
      this.#bytes.copy(larger, 0, 0, at);
      this.#bytes = larger;
    }
    return at;
  }
}

function known(position: Position | undefined): Position {
  if (position === undefined) throw new Error('no change is packed here');
  return position;
}
