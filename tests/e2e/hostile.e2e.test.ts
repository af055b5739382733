import { CLOSE } from '@goforward/realtime-protocol';
import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { clientCloseFrame, clientFrame, OPCODE } from '../support/client-frame.js';
import { Bystanders, inputsOf, parts, SEED, WITHOUT_LIMITS, withEach } from '../support/hostile.js';
import { RawWebSocket } from '../support/raw-socket.js';
import { RecordingLog } from '../support/recording-log.js';
import { startTestServer, type TestServer } from '../support/test-server.js';

const CHANNEL = 'under-attack';
/** Stays below the number of errors after which the server closes a connection. */
const MESSAGES_PER_CONNECTION = 90;
const log = new RecordingLog();
let server: TestServer;
let token: string;
let bystanders: Bystanders;
beforeAll(async () => {
  server = await startTestServer(WITHOUT_LIMITS, { log });
  token = await server.token('mallory');
  bystanders = await Bystanders.in(CHANNEL, server, log);
});
afterAll(() => server.stop());

const mixed = fc.string({ unit: 'binary', maxLength: 30 });
const kind = fc.constantFrom(
  'message',
  'broadcast',
  'presence',
  'ping',
  'system',
  'auth',
  'subscribe',
  'reply',
);
const event = fc.constantFrom('update', 'leave', 'ping', 'e');
const valid = fc
  .record({ type: kind, event, payload: fc.jsonValue(), ref: fc.nat() })
  .map((m) => JSON.stringify(m));
const value = fc.oneof(fc.jsonValue({ noUnicodeString: false }), mixed, fc.constant({}), fc.constant([]));

/** Builds messages with an unescaped text as the payload, the state, the event or the ref. */
const around = (text: fc.Arbitrary<string>): fc.Arbitrary<string> =>
  fc.tuple(text, fc.nat(4)).map(([inner, position]) => {
    if (position === 0) return `{"type":"message","event":"e","payload":${inner}}`;
    if (position === 1) return `{"type":"presence","event":"update","payload":{"state":${inner}}}`;
    if (position === 2) return `{"type":"presence","event":"update","payload":{"state":{"k":${inner}}}}`;
    if (position === 3) return `{"type":"message","event":${inner},"payload":1}`;
    return `{"type":"ping","event":"ping","ref":${inner}}`;
  });

function withPatch(text: string, at: number, patch: string): string {
  const position = at % (text.length + 1);
  return text.slice(0, position) + patch + text.slice(position + (at % 3));
}

describe(`invalid messages are answered with errors and affect no other client (HOSTILE_SEED=${SEED})`, () => {
  const levels = fc.tuple(fc.integer({ min: 1, max: 8_000 }), fc.boolean(), fc.boolean());
  const names = fc.constantFrom(
    '__proto__',
    'constructor',
    'prototype',
    'toString',
    'hasOwnProperty',
    'length',
  );
  const digits = fc.string({
    unit: fc.constantFrom(...'0123456789'.split('')),
    minLength: 1,
    maxLength: 400,
  });
  const CLASSES: Record<string, fc.Arbitrary<string | Buffer>> = {
    'broken JSON': fc.tuple(valid, fc.nat(), mixed).map(([text, at, patch]) => withPatch(text, at, patch)),
    'arbitrary text': mixed,
    'deep nesting': around(
      levels.map(([depth, isList, isClosed]) => {
        const [open, close] = isList ? ['[', ']'] : ['{"a":', '}'];
        return open.repeat(depth) + (isClosed ? `0${close.repeat(depth)}` : '');
      }),
    ),
    'wrong types in every field': fc
      .record(
        {
          type: value,
          event: value,
          payload: value,
          ref: value,
          id: value,
          user_id: value,
          timestamp: value,
        },
        { requiredKeys: [] },
      )
      .map((message) => JSON.stringify(message)),
    'wrong types in the payload of each message type': fc
      .record({ type: kind, event, payload: fc.oneof(value, fc.record({ state: value })), ref: fc.nat() })
      .map((message) => JSON.stringify(message)),
    'names of prototype properties': around(
      fc
        .tuple(names, names, fc.jsonValue())
        .map(([a, b, leaf]) => `{"${a}":{"${b}":${JSON.stringify(leaf)}}}`),
    ),
    'huge numbers': around(
      fc.oneof(
        fc.tuple(digits, fc.integer({ min: -999, max: 999 })).map(([text, power]) => `1${text}e${power}`),
        digits.map((text) => `-1${text}`),
        digits.map((text) => `0.${text}`),
        fc.constantFrom('1e999', '-1e999', '-0', '9007199254740993', '1e-999'),
      ),
    ),
    'lone surrogates': around(
      fc
        .array(fc.constantFrom('\\ud800', '\\udfff', '\\ud83d\\ude00', '\\u0000', 'a', '\\uFFFF'), {
          maxLength: 20,
        })
        .chain((units) =>
          fc.constantFrom(`"${units.join('')}"`, `{"${units.join('')}":"${units.join('')}"}`),
        ),
    ),
    'binary frames': fc.uint8Array({ maxLength: 200 }).map((bytes) => Buffer.from(bytes)),
  };

  test.each(Object.entries(CLASSES))('%s', async (_name, arbitrary) => {
    let refused = 0;
    await withEach(parts(inputsOf(arbitrary), MESSAGES_PER_CONNECTION), async (inputs) => {
      const client = await RawWebSocket.open(server, CHANNEL, { token, query: 'presence=none' });
      const frames = inputs.map((input) =>
        clientFrame(input, { opcode: typeof input === 'string' ? OPCODE.text : OPCODE.binary }),
      );
      client.write(...frames, clientFrame('end', { opcode: OPCODE.ping }));
      await client.ponged(1);
      expect(client.closeCode).toBeUndefined();
      for (const { payload } of client.messages.filter((message) => message.event === 'error')) {
        refused += 1;
        expect(payload.code).toMatch(
          /^(INVALID_JSON|VALIDATION_FAILED|UNKNOWN_MESSAGE_TYPE|MESSAGE_TOO_LARGE)$/,
        );
      }
      client.write(clientCloseFrame(CLOSE.NORMAL));
      expect(await client.closing()).toBe(CLOSE.NORMAL);
      await client.gone;
    });
    expect(refused).toBeGreaterThan(20);
    await bystanders.noticeNothing();
  });
});

describe(`broken frames close only their own connection (HOSTILE_SEED=${SEED})`, () => {
  const bytes = fc.uint8Array({ maxLength: 300 }).map((list) => Buffer.from(list));
  const control = fc.constantFrom<number>(OPCODE.ping, OPCODE.pong);
  const nothing = fc.constant(Buffer.alloc(0));
  const small = fc.uint8Array({ maxLength: 125 }).map((list) => Buffer.from(list));
  const controlFrame = fc.tuple(small, control).map(([body, opcode]) => clientFrame(body, { opcode }));
  const part = (body: Buffer, i: number, fin: boolean, opcode: number = OPCODE.text) =>
    clientFrame(body, { fin, opcode: i === 0 ? opcode : OPCODE.continuation });
  const stream = fc
    .array(valid, { minLength: 1, maxLength: 5 })
    .map((texts) => Buffer.concat(texts.map((text) => clientFrame(text))));
  /** Text with a byte that never occurs in UTF-8. */
  const notUtf8 = fc
    .tuple(mixed, fc.constantFrom(0xc0, 0xc1, 0xf5, 0xff), mixed)
    .map(([before, byte, after]) =>
      Buffer.concat([Buffer.from(before), Buffer.from([byte]), Buffer.from(after)]),
    );
  const lengths = fc.oneof(fc.nat(70_000), fc.bigInt({ min: 0n, max: 2n ** 64n - 1n }));
  const ANY = [CLOSE.PROTOCOL_ERROR, CLOSE.INVALID_UTF8, CLOSE.TOO_LARGE, undefined];
  const CLASSES: Record<string, [fc.Arbitrary<Buffer>, readonly (number | undefined)[]]> = {
    'fragments with control frames in between': [
      fc
        .array(fc.tuple(small, fc.boolean(), fc.oneof(controlFrame, nothing)), {
          minLength: 1,
          maxLength: 30,
        })
        .map((list) =>
          Buffer.concat(list.flatMap(([body, fin, between], i) => [part(body, i, fin), between])),
        ),
      ANY,
    ],
    'endless fragments': [
      fc
        .tuple(
          fc.integer({ min: 1_025, max: 1_500 }),
          small.map((body) => body.subarray(0, 20)),
          controlFrame,
        )
        .map(([count, body, between]) =>
          Buffer.concat([
            ...Array.from({ length: count }, (_, i) => part(body, i, false, OPCODE.binary)),
            between,
          ]),
        ),
      [CLOSE.TOO_LARGE],
    ],
    'unmasked frames': [
      fc
        .tuple(bytes, fc.constantFrom(1, 2, 9, 10))
        .map(([body, opcode]) => clientFrame(body, { opcode, masked: false })),
      [CLOSE.PROTOCOL_ERROR],
    ],
    'invalid UTF-8': [notUtf8.map((body) => clientFrame(body)), [CLOSE.INVALID_UTF8]],
    'invalid UTF-8 in the reason of a close frame': [
      notUtf8.map((body) =>
        clientFrame(Buffer.concat([Buffer.from([0x03, 0xe8]), body.subarray(-100)]), {
          opcode: OPCODE.close,
        }),
      ),
      [CLOSE.INVALID_UTF8, CLOSE.NORMAL],
    ],
    'oversized control frames': [
      fc
        .tuple(fc.integer({ min: 126, max: 66_000 }), fc.constantFrom(8, 9, 10))
        .map(([length, opcode]) => clientFrame(Buffer.alloc(length), { opcode })),
      [CLOSE.PROTOCOL_ERROR],
    ],
    'wrong lengths': [
      fc
        .tuple(bytes, lengths, stream)
        .map(([body, length, after]) => Buffer.concat([clientFrame(body, { length }), after])),
      ANY,
    ],
    'random bytes': [bytes, [...ANY, 1005]],
    'valid frames with flipped bits': [
      fc
        .tuple(stream, fc.array(fc.tuple(fc.nat(), fc.nat(7)), { minLength: 1, maxLength: 8 }))
        .map(([original, flips]) => {
          const flipped = Buffer.from(original);
          for (const [at, bit] of flips)
            flipped.writeUInt8(flipped.readUInt8(at % flipped.length) ^ (1 << bit), at % flipped.length);
          return flipped;
        }),
      [...ANY, 1005],
    ],
  };

  test.each(Object.entries(CLASSES))('%s', async (_name, [arbitrary, codes]) => {
    const unexpected: unknown[] = [];
    await withEach(inputsOf(arbitrary), async (input) => {
      const client = await RawWebSocket.open(server, CHANNEL, { token, query: 'presence=none' });
      client.write(input);
      client.socket.end();
      await client.gone;
      const isOwnClose = client.closeCode !== undefined && client.closeCode >= 3000;
      if (!codes.includes(client.closeCode) && !isOwnClose)
        unexpected.push([client.closeCode, input.toString('hex')]);
    });
    expect(unexpected).toEqual([]);
    await bystanders.noticeNothing();
  });
});
