import type { ProtocolError, ServerMessageType } from '@goforward/realtime-protocol';
import type { Identity } from '../auth/identity.js';
import type { Channel } from '../channels/channel.js';
import type { Subscriber } from '../channels/subscriber.js';
import type { JsonText } from '../lib/json-text.js';

/** A connection as the handlers see it: its identity, its channel, and how to answer it. */
export interface Session extends Subscriber {
  /** The client's address, for limits and the log. */
  readonly address: string;
  /** The channel that the connection is a member of. */
  channel: Channel | undefined;
  /** Replaces the identity by one of the same user, with other claims and another expiry. */
  replaceIdentity(identity: Identity): void;
  /** Sends the error and closes the connection with its close code. */
  closeWith(error: ProtocolError): void;
  /**
   * Sends a message to this connection alone, after all messages already sent to its channel. `ref`: of the message
   * that it answers.
   */
  send(type: ServerMessageType, event: string, payload: unknown, ref?: JsonText): void;
}
