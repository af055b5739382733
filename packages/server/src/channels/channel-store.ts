import type { ChannelConfig } from './channel-config.js';

/** A channel as it is kept: with its configuration, or as the mark that it was deleted. */
export interface StoredChannel {
  readonly name: string;
  /** null: deleted, and not to be brought back by somebody who joins. */
  readonly config: ChannelConfig | null;
}

/**
 * Where lasting channels and the marks of deleted ones are kept. Throws DATABASE_UNAVAILABLE when it cannot be
 * reached; with a cause where a change may have been kept all the same, and its answer was lost.
 */
export interface ChannelStore {
  load(): Promise<StoredChannel[]>;
  /** What is kept of one name: its configuration, null for the mark of deletion, undefined for nothing. */
  find(name: string): Promise<ChannelConfig | null | undefined>;
  /** False when a channel of this name is there already; a mark of deletion gives way. */
  create(name: string, config: ChannelConfig): Promise<boolean>;
  /** Leaves the mark of deletion, whether or not the channel was kept. */
  markDeleted(name: string): Promise<void>;
}
