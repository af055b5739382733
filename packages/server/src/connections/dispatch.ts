import type { ClientMessage } from '@goforward/realtime-protocol';
import type { Session } from './session.js';

/** Where a connection hands what came in; implemented by the handlers. */
export interface Dispatch {
  /**
   * Does what the message asks. What it answers is the payload of the `ok` reply to a message with a `ref`.
   * `bytes` is the size of the message as it came. Throws, or rejects with, ProtocolError for what cannot be done.
   */
  handle(
    session: Session,
    message: ClientMessage,
    bytes: number,
  ): Record<string, unknown> | Promise<Record<string, unknown>>;
  /** The connection is no longer of this world: it leaves what it was in. Called once. */
  closed(session: Session): void;
}
