import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { closeFrame, pingFrame, pongFrame, TextFrames, textFrame } from './frame.js';

const OPCODES: Readonly<Record<number, string>> = { 1: 'text', 8: 'close', 9: 'ping', 10: 'pong' };

interface Frame {
  readonly kind: string;
  readonly body: Buffer;
  /** Bytes of the header. */
  readonly header: number;
}

/** Parses frames as a client does (RFC 6455, 5.2). Throws for frames that a server must not send. */
function readFrames(bytes: Buffer): Frame[] {
  const frames: Frame[] = [];
  for (let at = 0; at < bytes.length; ) {
    const [first = 0, second = 0] = bytes.subarray(at, at + 2);
    const kind = OPCODES[first & 0x0f];
    if ((first & 0xf0) !== 0x80 || kind === undefined) throw new Error('not a final frame of a known kind');
    if (second > 127) throw new Error('a server must not mask');
    const header = second === 127 ? 10 : second === 126 ? 4 : 2;
    const length =
      second === 127
        ? Number(bytes.readBigUInt64BE(at + 2))
        : second === 126
          ? bytes.readUInt16BE(at + 2)
          : second;
    if (first & 0x08 && length > 125) throw new Error('a control frame is too long');
    if (at + header + length > bytes.length) throw new Error('the frame is truncated');
    frames.push({ kind, body: bytes.subarray(at + header, at + header + length), header });
    at += header + length;
  }
  return frames;
}

const strictText = (bytes: Uint8Array) => new TextDecoder('utf-8', { fatal: true }).decode(bytes);

describe('a text frame', () => {
  it.each([
    [0, 2],
    [1, 2],
    [125, 2],
    [126, 4],
    [65_535, 4],
    [65_536, 10],
    [200_000, 10],
  ])('of %d bytes has the shortest header, %d bytes', (length, header) => {
    const text = 'x'.repeat(length);
    const [frame, ...more] = readFrames(textFrame(text));
    expect(more).toEqual([]);
    expect(frame).toMatchObject({ kind: 'text', header });
    expect(frame?.body.toString()).toBe(text);
  });

  it('counts bytes, not characters', () => {
    const [frame] = readFrames(textFrame('é'.repeat(63)));
    expect([frame?.header, frame?.body.length]).toEqual([4, 126]);
  });

  it('is read back unchanged, also when several are concatenated', () => {
    const text = fc.string({ unit: 'grapheme', maxLength: 300, size: 'max' });
    fc.assert(
      fc.property(fc.array(text, { maxLength: 10 }), (texts) => {
        const frames = readFrames(Buffer.concat(texts.map(textFrame)));
        expect(frames.map(({ body }) => strictText(body))).toEqual(texts);
      }),
    );
  });
});

describe('a close frame', () => {
  it.each([1000, 1012, 4401, 4999])('carries the code %d and the reason', (code) => {
    const [frame] = readFrames(closeFrame(code, 'AUTH_FAILED'));
    expect(frame).toMatchObject({ kind: 'close' });
    expect([frame?.body.readUInt16BE(0), frame?.body.subarray(2).toString()]).toEqual([code, 'AUTH_FAILED']);
  });

  it('without a status has no body', () => {
    expect(readFrames(closeFrame(1005, 'not sent'))).toEqual([
      { kind: 'close', header: 2, body: Buffer.alloc(0) },
    ]);
  });

  it('has as much of the reason as fits into 123 bytes, truncated between characters', () => {
    const reason = fc.string({ unit: fc.constantFrom('a', 'é', '中', '😀'), maxLength: 150, size: 'max' });
    fc.assert(
      fc.property(reason, (text) => {
        const [frame] = readFrames(closeFrame(4000, text));
        const sent = strictText(frame?.body.subarray(2) ?? Buffer.alloc(0));
        expect(text.startsWith(sent)).toBe(true);
        const next = String.fromCodePoint(text.codePointAt(sent.length) ?? 0);
        if (sent !== text) expect(Buffer.byteLength(sent + next)).toBeGreaterThan(123);
      }),
    );
  });
});

it('a ping is empty, and a pong has the body of the ping', () => {
  expect(readFrames(pingFrame())).toEqual([{ kind: 'ping', header: 2, body: Buffer.alloc(0) }]);
  for (const length of [0, 1, 125]) {
    const body = Buffer.alloc(length, 7);
    expect(readFrames(pongFrame(body))).toEqual([{ kind: 'pong', header: 2, body }]);
  }
});

describe('text frames in large buffers', () => {
  it('have the same bytes as single ones, and mostly follow each other', () => {
    const text = fc.string({ unit: 'binary', minLength: 100, maxLength: 3_000 });
    fc.assert(
      fc.property(fc.array(text, { minLength: 1, maxLength: 60 }), (texts) => {
        const frames = new TextFrames();
        const encoded = texts.map((each) => frames.encode(each));
        expect(encoded).toEqual(texts.map(textFrame));
        const buffers = new Set(encoded.filter(({ length }) => length > 200).map(({ buffer }) => buffer));
        const bytes = encoded.reduce((sum, { length }) => sum + length, 0);
        expect(buffers.size).toBeLessThanOrEqual(1 + Math.ceil(bytes / 50_000));
      }),
      { numRuns: 50 },
    );
  });

  it('leave a frame that is large, or small, to itself', () => {
    const frames = new TextFrames();
    for (const length of [0, 1, 125, 126, 5_461, 5_462, 70_000])
      expect(frames.encode('x'.repeat(length))).toEqual(textFrame('x'.repeat(length)));
  });
});
