/** Who may do what in a channel, by role; a missing list has a meaning of its own (see permissions.ts). */
export interface ChannelPermissions {
  readonly read?: readonly string[];
  readonly write?: readonly string[];
  readonly admin?: readonly string[];
  /** Bytes of one message. */
  readonly max_message_size?: number;
  /** Messages per second and user. */
  readonly rate_limit?: number;
}

/** A channel's configuration, as HTTP takes and answers it. */
export interface ChannelConfig {
  readonly max_subscribers: number;
  readonly require_auth: boolean;
  readonly permissions: ChannelPermissions;
  readonly metadata: Readonly<Record<string, unknown>>;
}

/** What a request or an automatic channel leaves out. */
export function channelConfig(given: Partial<ChannelConfig>, defaultMaxSubscribers: number): ChannelConfig {
  return {
    max_subscribers: given.max_subscribers ?? defaultMaxSubscribers,
    require_auth: given.require_auth ?? true,
    permissions: given.permissions ?? {},
    metadata: given.metadata ?? {},
  };
}
