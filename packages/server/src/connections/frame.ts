/** Encodes server frames (RFC 6455, section 5.2): final and unmasked, so that all members can share one. */

const FINAL = 0x80;
const OPCODE = { text: 0x1, close: 0x8, ping: 0x9, pong: 0xa } as const;

/** Encodes one text frame. */
export function textFrame(text: string): Buffer {
  const length = Buffer.byteLength(text);
  const header = length < 126 ? 2 : length < 65_536 ? 4 : 10;
  const frame = Buffer.allocUnsafe(header + length);
  writeHeader(frame, OPCODE.text, length);
  frame.write(text, header, 'utf8');
  return frame;
}

const BUFFER_BYTES = 64 * 1024;
/** The largest number of bytes of a character in UTF-8, for each of its UTF-16 units. */
const BYTES_PER_UNIT = 3;
/** The header of a frame of 126 to 65,535 bytes. */
const HEADER_BYTES = 4;

/**
 * Encodes text frames one behind the other in large buffers: many small frames cost one allocation, and consecutive ones
 * can be sent together without a copy.
 */
export class TextFrames {
  #buffer = Buffer.alloc(0);
  #end = 0;

  /** Encodes one text frame. */
  encode(text: string): Buffer {
    const most = BYTES_PER_UNIT * text.length;
    if (text.length < 126 || most > BUFFER_BYTES / 4) return textFrame(text);
    if (this.#end + HEADER_BYTES + most > this.#buffer.length) {
      this.#buffer = Buffer.allocUnsafeSlow(BUFFER_BYTES);
      this.#end = 0;
    }
    const start = this.#end;
    const length = this.#buffer.write(text, start + HEADER_BYTES, 'utf8');
    this.#end = start + HEADER_BYTES + length;
    const frame = this.#buffer.subarray(start, this.#end);
    writeHeader(frame, OPCODE.text, length);
    return frame;
  }
}

/**
 * Encodes a close frame; 1005 (no status) has no body. Truncates the reason to the 123 bytes of a control
 * frame, between characters.
 */
export function closeFrame(code: number, reason = ''): Buffer {
  if (code === 1005) return controlFrame(OPCODE.close, Buffer.alloc(0));
  const text = Buffer.from(reason);
  let length = Math.min(text.length, 123);
  while (length < text.length && ((text[length] ?? 0) & 0xc0) === 0x80) length--;
  const body = Buffer.alloc(2 + length);
  body.writeUInt16BE(code, 0);
  text.copy(body, 2);
  return controlFrame(OPCODE.close, body);
}

export function pingFrame(): Buffer {
  return controlFrame(OPCODE.ping, Buffer.alloc(0));
}

export function pongFrame(body: Buffer): Buffer {
  return controlFrame(OPCODE.pong, body);
}

function controlFrame(opcode: number, body: Buffer): Buffer {
  const frame = Buffer.allocUnsafe(2 + body.length);
  writeHeader(frame, opcode, body.length);
  body.copy(frame, 2);
  return frame;
}

function writeHeader(frame: Buffer, opcode: number, length: number): void {
  frame[0] = FINAL | opcode;
  if (length < 126) {
    frame[1] = length;
  } else if (length < 65_536) {
    frame[1] = 126;
    frame.writeUInt16BE(length, 2);
  } else {
    frame[1] = 127;
    frame.writeBigUInt64BE(BigInt(length), 2);
  }
}
