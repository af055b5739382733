import type { Tick } from '../lib/tick.js';
import { Audience, type DeliveryCounters } from './audience.js';
import type { ChannelConfig } from './channel-config.js';

/**
 * `permanent`: created by HTTP, stored in PostgreSQL. `automatic`: created by joining, removed when unused.
 */
export type ChannelKind = 'permanent' | 'automatic';

/** A channel of this node: its configuration, its members, and when it was last used. */
export class Channel {
  readonly name: string;
  kind: ChannelKind;
  readonly config: ChannelConfig;
  readonly audience: Audience;
  /** When a message was last published or a member last left, in ms of a Clock. The time to live starts here. */
  lastUsed: number;

  constructor(
    name: string,
    kind: ChannelKind,
    config: ChannelConfig,
    parts: { tick: Tick; counters: DeliveryCounters; now: number },
  ) {
    this.name = name;
    this.kind = kind;
    this.config = config;
    this.audience = new Audience(parts.tick, parts.counters);
    this.lastUsed = parts.now;
  }
}
