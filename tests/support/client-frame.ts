/** Opcodes of RFC 6455, section 5.2. */
export const OPCODE = { continuation: 0, text: 1, binary: 2, close: 8, ping: 9, pong: 10 } as const;

/** The fields of a frame that differ from a final, masked text frame. */
export interface FrameParts {
  readonly opcode?: number;
  readonly fin?: boolean;
  /** The three reserved bits, 0 to 7. */
  readonly rsv?: number;
  readonly masked?: boolean;
  /** The length in the header, if it differs from the payload's. */
  readonly length?: number | bigint;
}

const MASK = Buffer.from([0x1a, 0x2b, 0x3c, 0x4d]);

/** Builds a client's frame, valid or invalid. */
export function clientFrame(payload: Buffer | string, parts: FrameParts = {}): Buffer {
  const { opcode = OPCODE.text, fin = true, rsv = 0, masked = true } = parts;
  const body = Buffer.from(payload);
  const first = (fin ? 0x80 : 0) | (rsv << 4) | opcode;
  const head = Buffer.concat([Buffer.from([first]), lengthOf(parts.length ?? body.length, masked)]);
  if (!masked) return Buffer.concat([head, body]);
  for (let i = 0; i < body.length; i++) body[i] = (body[i] ?? 0) ^ (MASK[i % 4] ?? 0);
  return Buffer.concat([head, MASK, body]);
}

/** Builds a text frame from a message. */
export function jsonFrame(message: unknown): Buffer {
  return clientFrame(JSON.stringify(message));
}

export function clientCloseFrame(code?: number, reason = ''): Buffer {
  const body = Buffer.alloc(code === undefined ? 0 : 2);
  if (code !== undefined) body.writeUInt16BE(code);
  return clientFrame(Buffer.concat([body, Buffer.from(reason)]), { opcode: OPCODE.close });
}

function lengthOf(length: number | bigint, masked: boolean): Buffer {
  const bit = masked ? 0x80 : 0;
  if (length < 126) return Buffer.from([bit | Number(length)]);
  if (length < 65_536) return Buffer.from([bit | 126, Number(length) >> 8, Number(length) & 0xff]);
  const head = Buffer.alloc(9);
  head[0] = bit | 127;
  head.writeBigUInt64BE(BigInt(length), 1);
  return head;
}
