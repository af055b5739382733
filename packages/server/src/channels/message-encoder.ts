import type { ServerMessage, ServerMessageType } from '@goforward/realtime-protocol';
import type { Clock } from '../lib/clock.js';
import { IdSource } from '../lib/ids.js';

/** Turns JSON text into the bytes that a connection writes (for WebSocket: one frame). */
export type Framer = (json: string) => Buffer;

/** Makes server messages with their id and time, and encodes each once for all who get it. */
export class MessageEncoder {
  readonly #frame: Framer;
  readonly #clock: Clock;
  readonly #ids = new IdSource();

  constructor(frame: Framer, clock: Clock) {
    this.#frame = frame;
    this.#clock = clock;
  }

  message(type: ServerMessageType, event: string, payload: unknown, userId: string): ServerMessage {
    const now = this.#clock();
    return {
      id: this.#ids.message(now),
      type,
      event,
      payload: payload === undefined ? {} : payload,
      user_id: userId,
      timestamp: new Date(now).toISOString(),
    };
  }

  encode(message: ServerMessage): Buffer {
    return this.encodeText(JSON.stringify(message));
  }

  /** A message that is JSON already. */
  encodeText(json: string): Buffer {
    return this.#frame(json);
  }
}
