import { EMPTY_OBJECT, type JsonText } from '../lib/json-text.js';

/** The roles that may read, write and administer a channel; see `Permissions` for missing lists. */
export interface ChannelPermissions {
  readonly read?: readonly string[];
  readonly write?: readonly string[];
  readonly admin?: readonly string[];
  /** Largest message, in bytes. */
  readonly max_message_size?: number;
  /** Messages per second and user. */
  readonly rate_limit?: number;
}

/** A channel's configuration, as in HTTP requests and answers. */
export interface ChannelConfig {
  readonly max_subscribers: number;
  readonly require_auth: boolean;
  readonly permissions: ChannelPermissions;
  readonly metadata: JsonText;
}

/** Fills the missing fields with their defaults. */
export function channelConfig(given: Partial<ChannelConfig>, defaultMaxSubscribers: number): ChannelConfig {
  return {
    max_subscribers: given.max_subscribers ?? defaultMaxSubscribers,
    require_auth: given.require_auth ?? true,
    permissions: given.permissions ?? {},
    metadata: given.metadata ?? EMPTY_OBJECT,
  };
}
