import type { PresenceMode, ProtocolError } from '@goforward/realtime-protocol';
import type { Identity } from '../auth/identity.js';

/** A member of a channel, as the channel sees it: something that takes bytes in order. Implemented by connections. */
export interface Subscriber {
  readonly id: string;
  readonly userId: string;
  readonly identity: Identity;
  /** False: what this member publishes does not come back to it. */
  readonly echo: boolean;
  readonly presence: PresenceMode;
  /** Takes encoded bytes, to be written at the end of this turn. */
  push(bytes: Buffer): void;
  /** Bytes that were pushed and that the system has not taken yet. */
  readonly waiting: number;
  /** As push, for bytes that the caller hands over no faster than they drain: they are never too many. */
  pushPaced(bytes: Buffer): void;
  /** Calls back once, when what waits now has left for the system. Never after the connection's end. */
  whenDrained(callback: () => void): void;
  /** It has made no progress for too long: it is cut off, and told why. */
  tooSlow(): void;
  /** Ends the membership and the connection with it: the channel is gone. */
  channelClosed(error: ProtocolError): void;
}
