import type { ServerMessage, ServerMessageType } from '@goforward/realtime-protocol';
import type { WallClock } from '../lib/clock.js';
import { IdSource } from '../lib/ids.js';
import { type JsonText, stringify } from '../lib/json-text.js';

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

  /** `payload`: a JsonText in it, or instead of it, is sent as it is. */
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

  /** Encodes a message. `ref`: of the client's message that it answers. */
  encode({ id, type, event, payload, user_id, timestamp }: ServerMessage, ref?: JsonText): Buffer {
    return this.#frame(
      `{"id":"${id}","type":"${type}","event":${JSON.stringify(event)},"payload":${stringify(payload)},` +
        `"user_id":${JSON.stringify(user_id)},"timestamp":"${timestamp}"${ref === undefined ? '' : `,"ref":${ref.text}`}}`,
    );
  }
}
