import type { ChangeSink, WalBegin, WalRelation } from '../source/change-source.js';
import type { Lsn } from '../sql/lsn.js';
import { readMessage } from './pgoutput.js';
import type { StreamHandler } from './replication-connection.js';

/** What `realtime.send` writes. */
const MESSAGE_PREFIX = 'goforward.message';
/** The prefix of our own messages in the log. */
export const HEARTBEAT_PREFIX = 'goforward.heartbeat';

/** What a stream has brought so far: hands messages to the sink, and knows how far everything is done. */
export class WalReceiver implements StreamHandler {
  readonly #sink: ChangeSink;
  readonly #onHeartbeat: (content: string) => void;
  readonly #relations = new Map<number, WalRelation>();
  /** The transaction that is being read; it is told of with its first change, since most have none for us. */
  #begin: WalBegin | undefined;
  #isReported = false;
  /** The end of the last transaction that was read. */
  #read: Lsn = 0n;
  /** Up to where the sink has handed everything out. */
  #handled: Lsn;
  #walEnd: Lsn;
  #transactions = 0;
  receivedBytes = 0;

  constructor(sink: ChangeSink, start: Lsn, onHeartbeat: (content: string) => void) {
    this.#sink = sink;
    this.#handled = start;
    this.#walEnd = start;
    this.#onHeartbeat = onHeartbeat;
  }

  /** PostgreSQL's end of the log, as it last said. */
  get walEnd(): Lsn {
    return this.#walEnd;
  }

  /** Up to where everything may be forgotten. Ever higher. */
  get safe(): Lsn {
    return this.#handled;
  }

  /** How many transactions with something for us are safe: the rest of the way is PostgreSQL's idle progress. */
  get transactions(): number {
    return this.#transactions;
  }

  /** The sink has handed out everything up to the end of a transaction. */
  handled(endLsn: Lsn): void {
    if (endLsn <= this.#handled) return;
    this.#handled = endLsn;
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
        this.#report();
        this.#sink.change(message.kind, this.#relation(message.relationOid), bytes);
        return;
      case 'begin':
        this.#begin = message.begin;
        return;
      case 'commit':
        this.#commit(message.endLsn);
        return;
      case 'relation':
        this.#relations.set(message.relation.oid, message.relation);
        return;
      case 'truncate':
        this.#report();
        this.#sink.truncate(message.relationOids.map((oid) => this.#relation(oid)));
        return;
      case 'message':
        if (message.prefix === MESSAGE_PREFIX) {
          this.#report();
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

  /** Only when no transaction is open, and all that was read has been handed out, has nothing been missed up to there. */
  keepalive(walEnd: Lsn): void {
    if (walEnd > this.#walEnd) this.#walEnd = walEnd;
    if (this.#begin === undefined) this.#skip(walEnd);
  }

  #report(): void {
    if (this.#isReported) return;
    if (this.#begin === undefined) throw new Error('a change outside of a transaction');
    this.#isReported = true;
    this.#sink.begin(this.#begin);
  }

  #commit(endLsn: Lsn): void {
    this.#begin = undefined;
    if (!this.#isReported) {
      this.#skip(endLsn);
      return;
    }
    this.#isReported = false;
    this.#read = endLsn;
    this.#sink.commit(endLsn);
  }

  /** Nothing for us came up to here. */
  #skip(lsn: Lsn): void {
    if (this.#handled >= this.#read && lsn > this.#handled) this.#handled = lsn;
  }

  #relation(oid: number): WalRelation {
    const relation = this.#relations.get(oid);
    if (relation === undefined) throw new Error('a change of a relation that was not described');
    return relation;
  }
}
