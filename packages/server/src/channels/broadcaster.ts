import { ProtocolError } from '@goforward/realtime-protocol';
import type { Identity } from '../auth/identity.js';
import type { Clock } from '../lib/clock.js';
import type { JsonText } from '../lib/json-text.js';
import { KeyedRateLimiter } from '../lib/token-bucket.js';
import type { Channel } from './channel.js';
import type { MessageEncoder } from './message-encoder.js';
import type { Permissions } from './permissions.js';
import { requireRate } from './rate-limit.js';
import type { Subscriber } from './subscriber.js';

/** A message to publish to all members of a channel. */
export interface Publication {
  readonly type: 'message' | 'broadcast';
  readonly event: string;
  readonly payload: JsonText;
  /** Size of the message or body as received, in bytes; compared with `max_message_size`. */
  readonly bytes: number;
}

/** Counts published messages; read when metrics are scraped. */
export interface PublishCounters {
  readonly published: { websocket: number; http: number };
}

export interface BroadcasterParts {
  readonly permissions: Permissions;
  readonly encoder: MessageEncoder;
  readonly counters: PublishCounters;
  readonly clock: Clock;
  /** False: publishing throws FEATURE_DISABLED. */
  readonly enabled: boolean;
}

/** Publishes messages to the members of a channel, from sockets and from HTTP alike. */
export class Broadcaster {
  readonly #parts: BroadcasterParts;
  /** One limiter per channel with a `rate_limit`; collected with the channel. */
  readonly #limiters = new WeakMap<Channel, KeyedRateLimiter>();

  constructor(parts: BroadcasterParts) {
    this.#parts = parts;
  }

  /**
   * Sends the message to all members and returns its id. Throws FEATURE_DISABLED, PERMISSION_DENIED,
   * MESSAGE_TOO_LARGE or RATE_LIMIT_EXCEEDED.
   */
  publish(channel: Channel, identity: Identity, publication: Publication, sender?: Subscriber): string {
    const { enabled, encoder, counters, clock } = this.#parts;
    if (!enabled) throw new ProtocolError('FEATURE_DISABLED', { fields: { feature: 'broadcast' } });
    this.admit(channel, identity, publication.bytes);
    const { type, event, payload } = publication;
    const message = encoder.message(type, event, payload, identity.userId);
    channel.audience.send(encoder.encode(message), { sender });
    channel.lastUsed = clock();
    counters.published[sender === undefined ? 'http' : 'websocket'] += 1;
    return message.id;
  }

  /** Checks a message into a channel, presence too: write permission, the channel's message size and rate. */
  admit(channel: Channel, identity: Identity, bytes: number): void {
    this.#parts.permissions.require(identity, 'write', channel.config);
    const { max_message_size: maxBytes, rate_limit: rate } = channel.config.permissions;
    if (maxBytes !== undefined && bytes > maxBytes) {
      throw new ProtocolError('MESSAGE_TOO_LARGE', { fields: { max_bytes: maxBytes } });
    }
    if (rate === undefined) return;
    requireRate(this.#limiter(channel, rate), identity.limitedAs, this.#parts.clock());
  }

  #limiter(channel: Channel, rate: number): KeyedRateLimiter {
    let limiter = this.#limiters.get(channel);
    if (limiter === undefined) {
      limiter = new KeyedRateLimiter({ perSecond: rate, burst: Math.max(1, rate) });
      this.#limiters.set(channel, limiter);
    }
    return limiter;
  }
}
