import type { SinkMemo } from '../../postgres/source/change-source.js';
import { PackedChanges } from './packed-changes.js';

/** What is told, between changes, to the members of every channel that is subscribed to tables. */
export interface StreamEvent {
  readonly event: 'gap' | 'database_down' | 'database_up';
  readonly payload: Readonly<Record<string, string>>;
  /** The tables that it concerns, by oid; missing: all. */
  readonly tables?: readonly number[];
}

/** Another history begins: what came before has no place in it. */
export interface EpochStart {
  readonly epoch: string;
  readonly memo: SinkMemo;
  /** Where PostgreSQL's log ended just before. */
  readonly end: bigint;
  /** Why changes were lost before it, where they were. */
  readonly gap?: string;
}

/**
 * A piece of the stream that is judged and handed out at once: changes in the order of commits, of a part of a
 * transaction or of several, a notice, or the beginning of a history. It stays in the log until the last member has taken it.
 */
export class ChangeBatch {
  readonly epoch: string;
  readonly streamEvent: StreamEvent | undefined;
  readonly epochStart: EpochStart | undefined;
  readonly changes = new PackedChanges();
  /** What to acknowledge when this slice and all before it are done: the end of the last transaction that ends in it. */
  endLsn: bigint | undefined;
  /** Members that have taken it whole. */
  received = 0;
  readonly #onDone: () => void;
  /** The router's own hold, and one for each member that has not taken all of it. */
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

  retain(): void {
    this.#references += 1;
  }

  release(): void {
    this.#references -= 1;
    if (this.#references === 0) this.#onDone();
  }
}
