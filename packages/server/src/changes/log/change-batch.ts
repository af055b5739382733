import type { SinkMemo } from '../../postgres/source/change-source.js';
import { PackedChanges } from './packed-changes.js';

/** An event that is sent between changes to the members of channels that are subscribed to tables. */
export interface StreamEvent {
  readonly event: 'gap' | 'database_down' | 'database_up';
  readonly payload: Readonly<Record<string, string>>;
  /** The oids of the tables that it concerns; missing: all. */
  readonly tables?: readonly number[];
}

/** The start of a change epoch. Positions of earlier epochs have no meaning in it. */
export interface EpochStart {
  readonly epoch: string;
  readonly memo: SinkMemo;
  /** The end of PostgreSQL's WAL just before the epoch. */
  readonly end: bigint;
  /** Why changes before it were lost; missing: none were. */
  readonly gap?: string;
}

/**
 * Holds a part of the stream that is evaluated and delivered at once: changes in commit order (a part of a
 * transaction, or several transactions), a stream event, or the start of an epoch. It stays in the log until the last
 * member has received it.
 */
export class ChangeBatch {
  readonly epoch: string;
  readonly streamEvent: StreamEvent | undefined;
  readonly epochStart: EpochStart | undefined;
  readonly changes = new PackedChanges();
  /** The LSN to acknowledge once this batch and all before it are done: the end of the last whole transaction. */
  endLsn: bigint | undefined;
  /**
   * The transactions in it that may have changed the catalog after their rows in it were written. The stream tells of
   * such a change before the table's next row only, which can be much later.
   */
  readonly catalogXids: number[] = [];
  /** How many members have received all of it. */
  received = 0;
  readonly #onDone: () => void;
  /** Counts one reference of the router, and one of each member that has not received all of it. */
  #references = 1;

  constructor(
    epoch: string,
    content: { streamEvent?: StreamEvent; epochStart?: EpochStart },
    onDone: () => void,
  ) {
    this.epoch = epoch;
    this.streamEvent = content.streamEvent;
    this.epochStart = content.epochStart;
    this.#onDone = onDone;
  }

  get isDone(): boolean {
    return this.#references === 0;
  }

  /** Whether its last change is of the transaction that commits at `commitLsn`. */
  endsWith(commitLsn: bigint): boolean {
    return this.changes.count > 0 && this.changes.last.commitLsn === commitLsn;
  }

  retain(): void {
    this.#references += 1;
  }

  release(): void {
    this.#references -= 1;
    if (this.#references === 0) this.#onDone();
  }
}
