import type { ChangeSink, WalBegin, WalRelation } from '../source/change-source.js';
import type { Lsn } from '../sql/lsn.js';
import { readMessage } from './pgoutput.js';
import type { StreamHandler } from './replication-connection.js';

/** The prefix of messages that `realtime.send` writes. */
const MESSAGE_PREFIX = 'goforward.message';
/**
 * The largest commit record without an invalidation of caches, in bytes. PostgreSQL writes one of 16 bytes into it for every
 * change of a catalog entry: records without are of 48 bytes, and longer with savepoints (4 bytes each), which are therefore
 * sometimes taken for changes of the catalog, and so is a record that a page border of the WAL divides.
 */
const MAX_PLAIN_COMMIT_BYTES = 64n;
/** The prefix of heartbeats in the WAL. */
export const HEARTBEAT_PREFIX = 'goforward.heartbeat';

/**
 * Decodes the stream, passes its messages to the sink, and tracks up to which position everything is
 * delivered.
 */
export class WalReceiver implements StreamHandler {
  readonly #sink: ChangeSink;
  readonly #onHeartbeat: (content: string) => void;
  readonly #relations = new Map<number, WalRelation>();
  /**
   * The open transaction. The sink gets it with its first change, since most transactions have none for it.
   */
  #begin: WalBegin | undefined;
  #isBeginSent = false;
  /** The end of the last transaction that the sink got. */
  #lastCommitEnd: Lsn = 0n;
  /** Everything before this position is delivered. */
  #delivered: Lsn;
  #walEnd: Lsn;
  #transactions = 0;
  receivedBytes = 0;

  constructor(sink: ChangeSink, start: Lsn, onHeartbeat: (content: string) => void) {
    this.#sink = sink;
    this.#delivered = start;
    this.#walEnd = start;
    this.#onHeartbeat = onHeartbeat;
  }

  /** The end of the WAL, as PostgreSQL last reported it. */
  get walEnd(): Lsn {
    return this.#walEnd;
  }

  /** The position up to which everything is delivered and may be acknowledged. Never decreases. */
  get safe(): Lsn {
    return this.#delivered;
  }

  /**
   * How many transactions with changes, messages or heartbeats are delivered. Progress without them is idle
   * progress.
   */
  get transactions(): number {
    return this.#transactions;
  }

  /** Records that the sink has delivered everything up to the end of a transaction. */
  markDelivered(endLsn: Lsn): void {
    if (endLsn <= this.#delivered) return;
    this.#delivered = endLsn;
    this.#transactions += 1;
  }

  data(bytes: Buffer, walEnd: Lsn): void {
    this.receivedBytes += bytes.length;
    if (walEnd > this.#walEnd) this.#walEnd = walEnd;
    const message = readMessage(bytes);
    switch (message.kind) {
      case 'insert':
      case 'update':
      case 'delete':
        this.#sendBegin();
        this.#sink.change(message.kind, this.#relation(message.relationOid), bytes);
        return;
      case 'begin':
        this.#begin = message.begin;
        return;
      case 'commit':
        this.#commit(message.commitLsn, message.endLsn);
        return;
      case 'relation':
        this.#relations.set(message.relation.oid, message.relation);
        return;
      case 'truncate':
        this.#sendBegin();
        this.#sink.truncate(message.relationOids.map((oid) => this.#relation(oid)));
        return;
      case 'message':
        if (message.prefix === MESSAGE_PREFIX) {
          this.#sendBegin();
          this.#sink.message(message.content);
          return;
        }
        if (message.prefix !== HEARTBEAT_PREFIX) return;
        this.#transactions += 1;
        this.#onHeartbeat(message.content.toString());
        return;
      case 'other':
        return;
    }
  }

  /** A keepalive's position is safe only when no transaction is open and everything received is delivered. */
  keepalive(walEnd: Lsn): void {
    if (walEnd > this.#walEnd) this.#walEnd = walEnd;
    if (this.#begin === undefined) this.#skipTo(walEnd);
  }

  #sendBegin(): void {
    if (this.#isBeginSent) return;
    if (this.#begin === undefined) throw new Error('received a change outside a transaction');
    this.#isBeginSent = true;
    this.#sink.begin(this.#begin);
  }

  #commit(commitLsn: Lsn, endLsn: Lsn): void {
    this.#begin = undefined;
    if (!this.#isBeginSent) {
      this.#skipTo(endLsn);
      return;
    }
    this.#isBeginSent = false;
    this.#lastCommitEnd = endLsn;
    this.#sink.commit(endLsn, endLsn - commitLsn > MAX_PLAIN_COMMIT_BYTES);
  }

  /** Advances the safe position over WAL without changes for the sink, unless a delivery is pending. */
  #skipTo(lsn: Lsn): void {
    if (this.#delivered >= this.#lastCommitEnd && lsn > this.#delivered) this.#delivered = lsn;
  }

  #relation(oid: number): WalRelation {
    const relation = this.#relations.get(oid);
    if (relation === undefined) throw new Error('received a change before its Relation message');
    return relation;
  }
}
