import type { Turn } from '../lib/turn.js';
import { Audience, type DeliveryTally } from './audience.js';
import type { ChannelConfig } from './channel-config.js';

/** `lasting`: made by HTTP and kept in PostgreSQL. `automatic`: made by the first member, gone when unused. */
export type ChannelKind = 'lasting' | 'automatic';

/** A channel of this node: its configuration, its members, and when it was last used. */
export class Channel {
  readonly name: string;
  kind: ChannelKind;
  readonly config: ChannelConfig;
  readonly audience: Audience;
  /** When something was last sent or a member last left, in ms: what expiry counts from. */
  lastUsed: number;

  constructor(
    name: string,
    kind: ChannelKind,
    config: ChannelConfig,
    parts: { turn: Turn; tally: DeliveryTally; now: number },
  ) {
    this.name = name;
    this.kind = kind;
    this.config = config;
    this.audience = new Audience(parts.turn, parts.tally);
    this.lastUsed = parts.now;
  }
}
