import type { PresenceMode, ProtocolError } from '@goforward/realtime-protocol';

/** A member of a channel, as the channel sees it: something that takes bytes in order. Implemented by connections. */
export interface Subscriber {
  readonly id: string;
  readonly userId: string;
  /** False: what this member publishes does not come back to it. */
  readonly echo: boolean;
  readonly presence: PresenceMode;
  /** Takes encoded bytes, to be written at the end of this turn. */
  push(bytes: Buffer): void;
  /** Ends the membership and the connection with it: the channel is gone. */
  channelClosed(error: ProtocolError): void;
}
