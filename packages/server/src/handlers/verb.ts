import type { Channel } from '../channels/channel.js';
import type { ReceivedMessage } from '../connections/decode.js';
import type { Session } from '../connections/session.js';

/** A message from a client, with its connection and channel. */
interface Request {
  readonly session: Session;
  readonly channel: Channel;
  readonly message: ReceivedMessage;
  /** Size of the message as received, in bytes. */
  readonly bytes: number;
}

/**
 * Handles one message type and returns the payload of the `ok` reply. Throws or rejects with ProtocolError.
 */
export type Verb = (request: Request) => Record<string, unknown> | Promise<Record<string, unknown>>;
