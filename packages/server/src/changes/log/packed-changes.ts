import type { WalBegin, WalRelation } from '../../postgres/source/change-source.js';
import { comparePositions, laterPosition, type Position } from '../model/position.js';

/** A change as it was received: a range of bytes that is decoded later. */
export type StreamedChange = TableChange | StreamedMessage;

interface Streamed {
  readonly transaction: WalBegin;
  /** Its index in the transaction, counted over all changes that were sent, from 0. */
  readonly index: number;
}

/** The range of `bytes` from `start` to `end`. */
interface Bytes {
  readonly bytes: Buffer;
  readonly start: number;
  readonly end: number;
}

/** A change of a table. A row change has its pgoutput message. */
export type TableChange = Streamed & { readonly relation: WalRelation } & (
    | ({ readonly kind: 'insert' | 'update' | 'delete' } & Bytes)
    | { readonly kind: 'truncate' }
  );

/** A message that `realtime.send` wrote to the WAL. */
export type StreamedMessage = Streamed & { readonly kind: 'message' } & Bytes;

/** Used for messages where tables have their oid. No table has this oid. */
export const MESSAGES_OID = 0;

/** The kinds of packed entries. An entry begins with a tag: the index of its kind. */
const KINDS = ['transaction', 'insert', 'update', 'delete', 'truncate', 'message'] as const;
type Kind = (typeof KINDS)[number];
const TAGS = Object.fromEntries(KINDS.map((kind, tag) => [kind, tag])) as Record<Kind, number>;
/** Tag, commit LSN, commit time and xid. */
const TRANSACTION_BYTES = 1 + 8 + 8 + 4;
/** Tag, number of the relation, index of the change and length of its message. */
const CHANGE_BYTES = 1 + 2 + 4 + 4;
const FIRST_BYTES = 1024;
/** The relation number of a change that has no table. */
const NO_RELATION = 0xffff;

/**
 * Stores changes and their transactions one after the other in one buffer. A million small changes are then a few
 * buffers, which cost the garbage collector nothing and can be written to a file as they are.
 */
export class PackedChanges {
  readonly #relations: WalRelation[] = [];
  /** The position of the last change of each relation, by relation number. */
  readonly #lastByRelation: Position[] = [];
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

  /** The number of changes. */
  get count(): number {
    return this.#count;
  }

  /** The size of the changes in bytes. */
  get length(): number {
    return this.#length;
  }

  /** The position of the first change. Throws if there is none. */
  get first(): Position {
    return required(this.#first);
  }

  /** The position of the last change. Throws if there is none. */
  get last(): Position {
    return required(this.#last);
  }

  get relations(): readonly WalRelation[] {
    return this.#relations;
  }

  /** Returns the position of the last change of each table, by oid, and of the last message, under MESSAGES. */
  lastByTable(): ReadonlyMap<number, Position> {
    const lasts = new Map<number, Position>();
    for (const [number, { oid }] of this.#relations.entries()) {
      const last = required(this.#lastByRelation[number]);
      const other = lasts.get(oid);
      lasts.set(oid, other === undefined ? last : laterPosition(last, other));
    }
    if (this.#lastMessage !== undefined) lasts.set(MESSAGES_OID, this.#lastMessage);
    return lasts;
  }

  /** The packed bytes, to be stored elsewhere and passed to `read`. */
  get bytes(): Buffer {
    return this.#bytes.subarray(0, this.#length);
  }

  /** Appends a change. */
  add(
    kind: StreamedChange['kind'],
    relation: WalRelation | undefined,
    transaction: WalBegin,
    index: number,
    message?: Buffer,
  ): void {
    if (this.#transaction !== transaction) this.#addTransaction(transaction);
    const size = message?.length ?? 0;
    const offset = this.#reserve(CHANGE_BYTES + size);
    const bytes = this.#bytes;
    bytes[offset] = TAGS[kind];
    const number = relation === undefined ? NO_RELATION : this.#numberOf(relation);
    bytes.writeUInt16BE(number, offset + 1);
    bytes.writeUInt32BE(index, offset + 3);
    bytes.writeUInt32BE(size, offset + 7);
    message?.copy(bytes, offset + CHANGE_BYTES);
    this.#count += 1;
    this.#last = { commitLsn: transaction.commitLsn, index };
    this.#first ??= this.#last;
    if (relation === undefined) this.#lastMessage = this.#last;
    else this.#lastByRelation[number] = this.#last;
  }

  /** Appends all changes of `other`. */
  addAll(other: PackedChanges): void {
    if (this.#hasNumbersOf(other)) {
      this.#copy(other);
      return;
    }
    for (const change of other.read()) {
      const { kind, transaction, index } = change;
      const message = kind === 'truncate' ? undefined : change.bytes.subarray(change.start, change.end);
      this.add(kind, kind === 'message' ? undefined : change.relation, transaction, index, message);
    }
  }

  /** Whether the relations of `other` have, or would get, the same numbers here. */
  #hasNumbersOf({ relations }: PackedChanges): boolean {
    const isSame = (relation: WalRelation, n: number) => {
      const number = this.#numbers.get(relation);
      return number === undefined ? n >= this.#relations.length : number === n;
    };
    return relations.every(isSame);
  }

  /** Appends the bytes of `other`, whose relations have the same numbers here. */
  #copy(other: PackedChanges): void {
    if (other.#count === 0) return;
    const offset = this.#reserve(other.#length);
    other.#bytes.copy(this.#bytes, offset, 0, other.#length);
    for (const [n, relation] of other.#relations.entries())
      this.#lastByRelation[this.#numberOf(relation)] = required(other.#lastByRelation[n]);
    this.#lastMessage = other.#lastMessage ?? this.#lastMessage;
    this.#transaction = other.#transaction;
    this.#count += other.#count;
    this.#first ??= other.#first;
    this.#last = other.#last;
  }

  /** Frees unused memory. */
  trim(): void {
    if (this.#length < this.#bytes.length * 0.75) this.#bytes = Buffer.from(this.bytes);
  }

  /** Frees all memory, once the bytes are stored elsewhere. They must then be passed to `read`. */
  release(): void {
    this.#bytes = Buffer.alloc(0);
  }

  /** Reads the changes after a position (missing: all). `bytes`: needed if they were stored elsewhere. */
  read(after?: Position, bytes: Buffer = this.#bytes): StreamedChange[] {
    const changes: StreamedChange[] = [];
    let transaction: WalBegin | undefined;
    for (let offset = 0; offset < this.#length; ) {
      const kind = KINDS[bytes[offset] ?? -1];
      if (kind === 'transaction') {
        transaction = {
          commitLsn: bytes.readBigUInt64BE(offset + 1),
          commitTime: bytes.readBigInt64BE(offset + 9),
          xid: bytes.readUInt32BE(offset + 17),
        };
        offset += TRANSACTION_BYTES;
        continue;
      }
      if (kind === undefined || transaction === undefined)
        throw new Error('packed changes cannot be decoded');
      const relation = this.#relations[bytes.readUInt16BE(offset + 1)];
      const index = bytes.readUInt32BE(offset + 3);
      const start = offset + CHANGE_BYTES;
      offset = start + bytes.readUInt32BE(offset + 7);
      const { commitLsn } = transaction;
      if (after !== undefined && comparePositions({ commitLsn, index }, after) <= 0) continue;
      if (kind === 'message') changes.push({ transaction, index, kind, bytes, start, end: offset });
      else if (relation === undefined) throw new Error('a packed change has no relation');
      else if (kind === 'truncate') changes.push({ transaction, index, relation, kind });
      else changes.push({ transaction, index, relation, kind, bytes, start, end: offset });
    }
    return changes;
  }

  #addTransaction(transaction: WalBegin): void {
    const offset = this.#reserve(TRANSACTION_BYTES);
    this.#bytes[offset] = TAGS.transaction;
    this.#bytes.writeBigUInt64BE(transaction.commitLsn, offset + 1);
    this.#bytes.writeBigInt64BE(transaction.commitTime, offset + 9);
    this.#bytes.writeUInt32BE(transaction.xid, offset + 17);
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

  /** Reserves `size` bytes and returns their offset. */
  #reserve(size: number): number {
    const offset = this.#length;
    this.#length += size;
    if (this.#length > this.#bytes.length) {
      const larger = Buffer.allocUnsafe(Math.max(this.#length, this.#bytes.length * 2));
      this.#bytes.copy(larger, 0, 0, offset);
      this.#bytes = larger;
    }
    return offset;
  }
}

function required(position: Position | undefined): Position {
  if (position === undefined) throw new Error('there are no packed changes');
  return position;
}
