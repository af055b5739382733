/** A relation as the log describes it before its first change, and again whenever something of it has changed. */
export interface WalRelation {
  readonly oid: number;
  readonly schema: string;
  readonly name: string;
  /** What old row versions consist of: `f` all columns, `d` the primary key, `i` an index, `n` nothing. */
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

/** The begin of a transaction; what follows until its commit belongs to it. */
export interface WalBegin {
  /** The LSN of the commit record: with an index, the cursor of each change (Begin.final_lsn). */
  readonly commitLsn: bigint;
  /** Microseconds since 1970-01-01 UTC. */
  readonly commitTime: bigint;
  readonly xid: number;
}

/** Takes what the source reads, in the order of commits. All calls are synchronous. */
export interface ChangeSink {
  /** The stream begins (again), before anything else. */
  opened(stream: OpenedStream): void;
  begin(begin: WalBegin): void;
  /** `bytes`: the pgoutput message, valid during the call only. */
  change(kind: 'insert' | 'update' | 'delete', relation: WalRelation, bytes: Buffer): void;
  truncate(relations: readonly WalRelation[]): void;
  /** A message of MESSAGE_PREFIX; `content` is valid during the call only. */
  message(content: Buffer): void;
  /** `endLsn`: what to acknowledge once every member has it. */
  commit(endLsn: bigint): void;
  /** The stream is broken; it will be opened again. `reason`: a few words without roles and secrets. */
  closed(reason: string): void;
  /**
   * What committed before `lsn` will not be sent again: whoever was away longer has missed it. Answers what is to be
   * kept together with that position, as JSON, and given back when the stream is opened.
   */
  forget(lsn: bigint): SinkMemo;
}

/** What a sink keeps beside the position of the stream. */
export type SinkMemo = Readonly<Record<string, string>>;

export interface OpenedStream {
  /** Names the history that cursors are of. */
  readonly epoch: string;
  /** Set when changes were lost since the last one was acknowledged, with the reason in a few words. */
  readonly gap?: string;
  /** What the sink had kept in this history. */
  readonly memo: SinkMemo;
  /** Where PostgreSQL's log ended just before: what commits from now on does so behind it. */
  readonly end: bigint;
}

/** One thing that keeps changes from being read, or will: what `doctor`, the log and `/readyz` tell. */
export interface Finding {
  /** Stable and documented: `GF101`. */
  readonly code: string;
  readonly severity: 'error' | 'warning';
  /** A few words without roles and secrets, fit for `/readyz`. */
  readonly title: string;
  /** What mends it, for the operator alone: the exact SQL or setting. */
  readonly advice: string;
}

export type SourceState =
  | { readonly status: 'connecting' | 'stopped' }
  | { readonly status: 'streaming' }
  /** Another server reads the slot; this one takes over when it ends. */
  | { readonly status: 'follower' }
  /** The database cannot be reached, or the stream broke; tried again in the background. */
  | { readonly status: 'down'; readonly reason: string }
  /** Somebody has to mend something; tried again in the background. */
  | { readonly status: 'refused'; readonly findings: readonly Finding[] };

/** Numbers of the stream, as far as they are known. */
export interface SourceStats {
  /** Bytes of WAL between PostgreSQL's end and what was handed to every member. */
  readonly lagBytes: number;
  /** How long the last heartbeat was under way. */
  readonly lagSeconds: number;
  /** Bytes of WAL that PostgreSQL keeps for the slot. */
  readonly retainedBytes: number;
  /** How many transactions old the oldest row of the catalog is that vacuum must keep for the slot. */
  readonly xminAge: number;
  /** Bytes that came over the replication connection. */
  readonly receivedBytes: number;
}

/** Where changes come from: the WAL, or a table that triggers write to. */
export interface ChangeSource {
  readonly state: SourceState;
  readonly stats: SourceStats;
  /** Where PostgreSQL's log ended when it was last looked at; undefined before the first time. */
  readonly observedEnd: bigint | undefined;
  /** Looks where PostgreSQL's log ends. Throws DATABASE_UNAVAILABLE. */
  observe(): Promise<bigint>;
  /** Connects in the background, for as long as it takes, until `stop`. */
  start(sink: ChangeSink): void;
  stop(): Promise<void>;
  /**
   * Everything up to here has been handed to every member: the source may forget it. Ever higher within one opened
   * stream; called often, so it costs nothing.
   */
  acknowledge(endLsn: bigint): void;
  /** Stops reading, so that PostgreSQL waits; the connection stays alive. */
  pause(): void;
  resume(): void;
}
