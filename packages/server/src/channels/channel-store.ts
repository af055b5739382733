import type { ChannelConfig } from './channel-config.js';

/** A stored channel: its configuration, or a deletion mark. */
export interface StoredChannel {
  readonly name: string;
  /** null: deleted; joining must not create it again. */
  readonly config: ChannelConfig | null;
}

/**
 * Stores permanent channels and the marks of deleted ones. Throws DATABASE_UNAVAILABLE when it cannot be
 * reached: with a cause if a change may have been stored although its answer was lost.
 */
export interface ChannelStore {
  load(): Promise<StoredChannel[]>;
  /** Returns the configuration of a channel, null for a deletion mark, undefined for neither. */
  find(name: string): Promise<ChannelConfig | null | undefined>;
  /** Stores a channel; replaces a deletion mark. Returns false when the channel exists already. */
  create(name: string, config: ChannelConfig): Promise<boolean>;
  /** Stores a deletion mark, whether or not the channel was stored. */
  markDeleted(name: string): Promise<void>;
}
