import type { ServerMessage, ServerMessageType } from '@goforward/realtime-protocol';
import type { WallClock } from '../lib/clock.js';
import { IdSource } from '../lib/ids.js';

/** Converts JSON text to the bytes that a connection writes (for WebSocket: one frame). */
export type Framer = (json: string) => Buffer;

/** Creates server messages with id and timestamp, and encodes each once for all recipients. */
export class MessageEncoder {
  readonly #frame: Framer;
  readonly #wallClock: WallClock;
  readonly #ids = new IdSource();

  constructor(frame: Framer, wallClock: WallClock) {
    this.#frame = frame;
    this.#wallClock = wallClock;
  }

  message(type: ServerMessageType, event: string, payload: unknown, userId: string): ServerMessage {
    const now = this.#wallClock.epochMs();
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

  /** Encodes a message that is JSON text already. */
  encodeText(json: string): Buffer {
    return this.#frame(json);
  }
}
