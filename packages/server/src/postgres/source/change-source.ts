/**
 * A relation as the WAL describes it: before its first change, and again after every change of its
 * definition.
 */
export interface WalRelation {
  readonly oid: number;
  readonly schema: string;
  readonly name: string;
  /**
   * The replica identity, which says what old row versions contain: `f` all columns, `d` the primary key, `i`
   * an index, `n` nothing.
   */
  readonly identity: 'f' | 'd' | 'i' | 'n';
  readonly columns: readonly WalColumn[];
}

export interface WalColumn {
  readonly name: string;
  readonly typeOid: number;
  /** -1: none. */
  readonly typeModifier: number;
  /** Part of the replica identity. */
  readonly isKey: boolean;
}

/** The begin of a transaction. All calls until its commit belong to it. */
export interface WalBegin {
  /** The LSN of the commit record: with an index, the cursor of each change (Begin.final_lsn). */
  readonly commitLsn: bigint;
  /** Microseconds since 1970-01-01 UTC. */
  readonly commitTime: bigint;
  readonly xid: number;
}

/** Receives what a source reads, in commit order. All calls are synchronous. */
export interface ChangeSink {
  /** Called first, whenever the stream is opened or reopened. */
  opened(stream: OpenedStream): void;
  begin(begin: WalBegin): void;
  /** `bytes`: the pgoutput message, valid only during the call. */
  change(kind: 'insert' | 'update' | 'delete', relation: WalRelation, bytes: Buffer): void;
  truncate(relations: readonly WalRelation[]): void;
  /** A message of `realtime.send`. `content` is valid only during the call. */
  message(content: Buffer): void;
  /**
   * `endLsn`: the position to acknowledge once every member has the transaction. `mayHaveChangedCatalog`: privileges or
   * policies of tables can differ from when the transaction wrote its first rows.
   */
  commit(endLsn: bigint, mayHaveChangedCatalog: boolean): void;
  /**
   * Called when the stream broke; the source will reopen it. `reason`: a few words without roles and secrets.
   */
  closed(reason: string): void;
  /**
   * Called before `lsn` is stored and acknowledged: transactions before it cannot be read again, so clients
   * that were away for longer get a gap. Returns a memo to store together with that position, as JSON;
   * `opened` receives it.
   */
  forget(lsn: bigint): SinkMemo;
}

/** Values that a sink stores together with the position of the stream. */
export type SinkMemo = Readonly<Record<string, string>>;

export interface OpenedStream {
  /** The change epoch that cursors belong to. */
  readonly epoch: string;
  /** Set when changes after the acknowledged position were lost: the reason in a few words. */
  readonly gap?: string;
  /** The memo that the sink last stored in this epoch. */
  readonly memo: SinkMemo;
  /** The end of the WAL just before: transactions that commit from now on come after it. */
  readonly end: bigint;
}

/** One problem that prevents reading changes, or will: shown by `doctor`, the log and `/readyz`. */
export interface Finding {
  /** Stable and documented: `GF101`. */
  readonly code: string;
  readonly severity: 'error' | 'warning';
  /** A few words without roles and secrets, fit for `/readyz`. */
  readonly title: string;
  /** How to fix it, for the operator only: the exact SQL or setting. */
  readonly advice: string;
}

export type SourceState =
  | { readonly status: 'connecting' | 'stopped' }
  | { readonly status: 'streaming' }
  /** Another server reads changes; this one takes over when that server ends. */
  | { readonly status: 'follower' }
  /** The database is unreachable, or the stream broke; the source retries in the background. */
  | { readonly status: 'down'; readonly reason: string }
  /** The operator has to fix something; the source retries in the background. */
  | { readonly status: 'refused'; readonly findings: readonly Finding[] };

/** Statistics of the stream; 0 where a value is not known. */
export interface SourceStats {
  /** Bytes of WAL between its end and the position that is delivered to every member. */
  readonly lagBytes: number;
  /** How long the last heartbeat took, in seconds. */
  readonly lagSeconds: number;
  /** Bytes of WAL that PostgreSQL retains for the slot. */
  readonly retainedBytes: number;
  /**
   * Age, in transactions, of the oldest catalog row that vacuum must keep for the slot (`age(catalog_xmin)`).
   */
  readonly xminAge: number;
  /** Bytes received from PostgreSQL. */
  readonly receivedBytes: number;
}

/** Reads row changes: from the WAL (logical), or from a table that triggers write to (trigger). */
export interface ChangeSource {
  readonly state: SourceState;
  readonly stats: SourceStats;
  /** The end of the WAL at the last `observe`; undefined before the first one. */
  readonly observedEnd: bigint | undefined;
  /** Reads and returns the current end of the WAL. Throws DATABASE_UNAVAILABLE. */
  observe(): Promise<bigint>;
  /** Connects in the background and reconnects until `stop`. */
  start(sink: ChangeSink): void;
  stop(): Promise<void>;
  /**
   * Records that everything up to `endLsn` is delivered to every member, so that the source may discard it.
   * Never decreases within one opened stream. Called often, so it must be cheap.
   */
  acknowledge(endLsn: bigint): void;
  /** Stops reading, so that PostgreSQL waits; the connection stays alive. */
  pause(): void;
  resume(): void;
}
