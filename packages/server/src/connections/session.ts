import type { ClientMessage, ProtocolError, ServerMessageType } from '@goforward/realtime-protocol';
import type { Identity } from '../auth/identity.js';
import type { Channel } from '../channels/channel.js';
import type { Subscriber } from '../channels/subscriber.js';

/** A connection as those see it who do what its client says: who it is, where it is, and how it is answered. */
export interface Session extends Subscriber {
  /** Where it came from, for limits and the log. */
  readonly address: string;
  /** The channel that it is a member of. */
  channel: Channel | undefined;
  /** The same user goes on with other claims, until another time. */
  authenticated(identity: Identity): void;
  /** Tells the error and closes with its code. */
  closeWith(error: ProtocolError): void;
  /** A message for this connection alone; it comes after everything that its channel was sent before. */
  send(type: ServerMessageType, event: string, payload: unknown, ref?: ClientMessage['ref']): void;
}
