import { type Connected, LIMITS } from '@goforward/realtime-protocol';
import { anonymousIdentity, type Identity } from '../auth/identity.js';
import { missingToken } from '../auth/token-refusal.js';
import type { Channel } from '../channels/channel.js';
import type { ChannelRegistry } from '../channels/channel-registry.js';
import type { Permissions } from '../channels/permissions.js';
import type { Session } from '../connections/session.js';
import type { PresenceTracker } from '../presence/presence-tracker.js';

export interface JoinParts {
  readonly channels: ChannelRegistry;
  readonly permissions: Permissions;
  readonly presence: PresenceTracker;
  /** Is notified of joins and leaves; undefined when row changes are off. */
  readonly rowChanges:
    | {
        /** Waits until the server can decide whether a returning client can resume. */
        waitUntilOpen(): Promise<void>;
        joined(member: Session, channel: Channel, cursor: string | undefined): JoinResult;
        left(member: Session): void;
      }
    | undefined;
  /** Server limits that `connected` reports. */
  readonly facts: {
    readonly pingIntervalMs: number;
    readonly maxMessageBytes: number;
    readonly messageRate: number;
  };
}

/** The part of row changes in the answer to a join. */
interface JoinResult {
  readonly cursor?: string;
  readonly recovered: boolean;
  /** System events sent right after `connected`. */
  readonly events: readonly { readonly event: string; readonly payload: unknown }[];
}

const NO_ROW_CHANGES: JoinResult = { recovered: false, events: [] };

/** Adds connections to channels, and removes them when they close. */
export class Join {
  readonly #parts: JoinParts;

  constructor(parts: JoinParts) {
    this.#parts = parts;
  }

  /**
   * Waits for a creation of this channel in progress, because its permission lists must apply to the join. A
   * client that resumes with a cursor waits for row changes as well.
   */
  async settled(channelName: string, cursor: string | undefined): Promise<void> {
    if (cursor !== undefined) await this.#parts.rowChanges?.waitUntilOpen();
    await this.#parts.channels.settled(channelName);
  }

  /** Returns an anonymous identity. Throws AUTH_FAILED if the channel requires a token or is missing. */
  withoutToken(connectionId: string, address: string, channelName: string): Identity {
    if (this.#parts.channels.find(channelName)?.config.require_auth === false)
      return anonymousIdentity(connectionId, address);
    throw missingToken();
  }

  /** Returns the channel, created if allowed. Throws PERMISSION_DENIED and what `channels.open` throws. */
  open(identity: Identity, channelName: string): Channel {
    const { channels, permissions } = this.#parts;
    permissions.require(identity, 'read', channels.configFor(channelName));
    return channels.open(channelName);
  }

  /**
   * Makes the connection a member of an opened channel and sends it `connected`, then the listed users.
   * `cursor` is the client's position among row changes.
   */
  enter(session: Session, channel: Channel, cursor: string | undefined): void {
    const { permissions, presence, rowChanges } = this.#parts;
    const { identity } = session;
    const isListed = session.presence !== 'none' && permissions.allows(identity, 'write', channel.config);
    if (isListed) presence.join(channel, identity.userId);
    else presence.connected(channel, identity.userId);
    presence.flushPending(channel);
    channel.audience.join(session);
    session.channel = channel;
    const result = rowChanges?.joined(session, channel, cursor) ?? NO_ROW_CHANGES;
    session.send('system', 'connected', this.#connected(session, channel, result));
    if (session.presence === 'each') for (const bytes of presence.joinMessages(channel)) session.push(bytes);
    for (const { event, payload } of result.events) session.send('system', event, payload);
  }

  /** Removes a closed connection from its channel, and its user from the list with the last connection. */
  leave(session: Session): void {
    const { channel } = session;
    if (channel === undefined) return;
    channel.audience.leave(session);
    this.#parts.rowChanges?.left(session);
    this.#parts.presence.disconnected(channel, session.userId);
    this.#parts.channels.touch(channel);
  }

  #connected(session: Session, channel: Channel, { cursor, recovered }: JoinResult): Connected {
    const { presence, facts } = this.#parts;
    const { expiresAt } = session.identity;
    const own = channel.config.permissions;
    return {
      channel: channel.name,
      connection_id: session.id,
      user_id: session.userId,
      ...(cursor === undefined ? {} : { cursor }),
      recovered,
      subscriber_count: channel.audience.size,
      presence_count: presence.count(channel),
      ...(session.presence === 'diff' ? { presence: presence.snapshot(channel) } : {}),
      ping_interval_ms: facts.pingIntervalMs,
      ...(expiresAt === null ? {} : { token_expires_at: new Date(expiresAt).toISOString() }),
      limits: {
        max_message_size: Math.min(own.max_message_size ?? facts.maxMessageBytes, facts.maxMessageBytes),
        message_rate: Math.min(own.rate_limit ?? facts.messageRate, facts.messageRate),
        presence_state_bytes: LIMITS.presenceStateBytes,
      },
    };
  }
}
