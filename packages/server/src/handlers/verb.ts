import type { ClientMessage } from '@goforward/realtime-protocol';
import type { Channel } from '../channels/channel.js';
import type { Session } from '../connections/session.js';

/** A message that a client may send, with what its handler needs to know. */
interface Request {
  readonly session: Session;
  readonly channel: Channel;
  readonly message: ClientMessage;
  /** Size of the message as it came. */
  readonly bytes: number;
}

/** Does one client verb and answers the payload of its `ok` reply, maybe later. Throws, or rejects with, ProtocolError. */
export type Verb = (request: Request) => Record<string, unknown> | Promise<Record<string, unknown>>;
