import type { PresenceMode, ProtocolError } from '@goforward/realtime-protocol';
import type { Identity } from '../auth/identity.js';

/** A member of a channel: receives encoded messages in order. Implemented by connections. */
export interface Subscriber {
  readonly id: string;
  readonly userId: string;
  readonly identity: Identity;
  /** False: the member does not get its own messages. */
  readonly echo: boolean;
  readonly presence: PresenceMode;
  /** Queues encoded bytes, to be written at the end of this tick. */
  push(bytes: Buffer): void;
  /** Bytes that were pushed and not yet accepted by the operating system. */
  readonly bufferedBytes: number;
  /** How many bytes the peer has ever made room for while others had to wait. */
  readonly drainedBytes: number;
  /** Like `push`, for bytes paced by `whenDrained`: they do not count against the outbox limit. */
  pushPaced(bytes: Buffer): void;
  /** Calls back once the bytes queued now have drained to the system; never after the connection's end. */
  whenDrained(callback: () => void): void;
  /** Closes the connection with SLOW_CONSUMER: it reads too slowly. */
  closeSlowConsumer(): void;
  /** Ends the membership and closes the connection, because the channel was deleted. */
  channelClosed(error: ProtocolError): void;
}
