import type { ReceivedMessage } from './decode.js';
import type { Session } from './session.js';

/** Handles the messages of connections; implemented by `handlers/`. */
export interface Dispatch {
  /**
   * Handles one message. Returns the payload of the `ok` reply, sent if the message has a `ref`. `bytes` is
   * the size of the message as received. Throws, or rejects with, ProtocolError when it cannot be handled.
   */
  handle(
    session: Session,
    message: ReceivedMessage,
    bytes: number,
  ): Record<string, unknown> | Promise<Record<string, unknown>>;
  /** Called once when the connection has closed: removes it from its channel. */
  closed(session: Session): void;
}
