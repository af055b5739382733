import { randomBytes } from 'node:crypto';

export const OPCODE = { text: 0x1, close: 0x8, ping: 0x9, pong: 0xa };

/**
 * Builds a masked frame of up to 65,535 bytes, as RFC 6455 requires of clients (section 5.3).
 * @param {number} opcode
 * @param {Buffer} body
 */
export function clientFrame(opcode, body) {
  const head = body.length < 126 ? 2 : 4;
  const frame = Buffer.alloc(head + 4 + body.length);
  frame[0] = 0x80 | opcode;
  frame[1] = 0x80 | (head === 2 ? body.length : 126);
  if (head === 4) frame.writeUInt16BE(body.length, 2);
  const mask = randomBytes(4);
  mask.copy(frame, head);
  for (let i = 0; i < body.length; i++) frame[head + 4 + i] = body[i] ^ mask[i & 3];
  return frame;
}

/** Splits a server's byte stream, received in arbitrary pieces, into frames. */
export class FrameReader {
  /** @type {(opcode: number, bytes: Buffer, start: number, end: number) => void} */
  #onFrame;
  /** The start of an incomplete frame. @type {Buffer | undefined} */
  #rest;

  /**
   * @param {(opcode: number, bytes: Buffer, start: number, end: number) => void} onFrame gets the position of the body in `bytes`
   */
  constructor(onFrame) {
    this.#onFrame = onFrame;
  }

  /** @param {Buffer} piece may be overwritten by the caller afterwards */
  read(piece) {
    const bytes = this.#rest === undefined ? piece : Buffer.concat([this.#rest, piece]);
    this.#rest = undefined;
    let at = 0;
    while (at < bytes.length) {
      const length = at + 1 < bytes.length ? bytes[at + 1] : 0;
      const head = length < 126 ? 2 : length === 126 ? 4 : 10;
      if (at + head > bytes.length) break;
      let end = at + head;
      if (head === 2) end += length;
      else if (head === 4) end += bytes.readUInt16BE(at + 2);
      else end += Number(bytes.readBigUInt64BE(at + 2));
      if (end > bytes.length) break;
      if ((bytes[at] & 0xf0) !== 0x80 || length > 127) throw new Error('the server sent an invalid frame');
      this.#onFrame(bytes[at] & 0x0f, bytes, at + head, end);
      at = end;
    }
    if (at < bytes.length) this.#rest = Buffer.from(bytes.subarray(at));
  }
}
