import { LIMITS, ProtocolError } from '@goforward/realtime-protocol';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { compact, objectText } from '../../../../tests/support/json-arbitraries.js';
import { decode } from './decode.js';

/** Returns what was decoded: the message, or the code, field and ref of the error, the ref as its text. */
function decoded(data: string | Buffer, isBinary = false): unknown {
  const result = decode(Buffer.from(data), isBinary);
  if ('message' in result) return result.message;
  const { code, field } = result.error.body;
  return [code, field, result.ref?.text];
}

/** Returns the payload and the ref of a message, as their texts. */
function textsOf(data: string): { payload: string; ref: string | undefined } {
  const result = decode(Buffer.from(data), false);
  if ('error' in result) throw result.error;
  return { payload: result.message.payloadText.text, ref: result.message.ref?.text };
}

describe('a message', () => {
  it.each([
    { type: 'broadcast', event: 'chat', payload: { text: 'hi' } },
    { type: 'ping', event: 'ping', ref: 0 },
    { type: 'presence', event: 'update', payload: { state: {} }, ref: 'r1', id: 7, timestamp: 'whenever' },
    { type: 'an unknown type', event: 'e' },
  ])('is accepted: %j', (message) => {
    const { type, event, payload } = message;
    expect(decoded(JSON.stringify(message))).toMatchObject({ type, event, payload });
    expect(textsOf(JSON.stringify(message))).toEqual({
      payload: JSON.stringify(payload ?? {}),
      ref: JSON.stringify(message.ref),
    });
  });

  it.each<[string, string | undefined, unknown]>([
    ['', undefined, undefined],
    ['{', undefined, undefined],
    ['{"type":"ping","event":"ping"} {}', undefined, undefined],
    ['[['.repeat(10_000), undefined, undefined],
    [`{"type":"a","event":"b","payload":${'['.repeat(64)}${']'.repeat(64)}}`, undefined, undefined],
  ])('that is not JSON of bounded depth is rejected: %.40s', (text, field, ref) => {
    expect(decoded(text)).toEqual(['INVALID_JSON', field, ref]);
  });

  it.each<[string, string, unknown]>([
    ['null', 'message', undefined],
    ['7', 'message', undefined],
    ['"ping"', 'message', undefined],
    ['[]', 'message', undefined],
    ['{}', 'type', undefined],
    ['{"event":"e"}', 'type', undefined],
    ['{"type":"ping"}', 'event', undefined],
    ['{"type":"ping","ref":7}', 'event', '7'],
    ['{"type":7,"event":"e","ref":"r"}', 'type', '"r"'],
    ['{"type":"t","event":"","ref":0}', 'event', '0'],
    ['{"type":"t","event":null}', 'event', undefined],
    ['{"type":"t","event":{"toString":1}}', 'event', undefined],
    ['{"type":"t","event":"e","ref":-1}', 'ref', undefined],
    ['{"type":"t","event":"e","ref":1.5}', 'ref', undefined],
    ['{"type":"t","event":"e","ref":""}', 'ref', undefined],
    ['{"type":"t","event":"e","ref":null}', 'ref', undefined],
    ['{"type":"t","event":"e","ref":{"a":1}}', 'ref', undefined],
    ['{"type":"t","event":"e","ref":1e400}', 'ref', undefined],
    [`{"type":"t","event":"e","ref":1.${'0'.repeat(63)}}`, 'ref', undefined],
    ['{"__proto__":{"type":"t","event":"e"}}', 'type', undefined],
    [`{"type":"t","event":"${'x'.repeat(201)}"}`, 'event', undefined],
    [`{"type":"t","event":"e","ref":"${'x'.repeat(65)}"}`, 'ref', undefined],
  ])('of the wrong shape is rejected: %.60s', (text, field, ref) => {
    expect(decoded(text)).toEqual(['VALIDATION_FAILED', field, ref]);
  });

  it('in a binary frame is rejected', () => {
    expect(decoded('{"type":"ping","event":"ping"}', true)).toEqual(['INVALID_JSON', undefined, undefined]);
  });

  it('with a key __proto__ or constructor does not change other objects', () => {
    const text = '{"type":"t","event":"e","payload":{"__proto__":{"isAdmin":true}},"constructor":1}';
    expect(decoded(text)).toMatchObject({ type: 't', event: 'e' });
    expect('isAdmin' in {}).toBe(false);
  });
});

describe('a payload', () => {
  it('is kept as it was written, but for whitespace between tokens; of several the last', () => {
    const keys = ['"payload"', '"pay\\u006coad"'] as const;
    fc.assert(
      fc.property(objectText(...keys), fc.boolean(), ({ text, members }, isFirst) => {
        const envelope = '"type":"t","event":"e"';
        const inner = text.trim().slice(1, -1);
        const parts = inner.trim() === '' ? [envelope] : [envelope, inner];
        const message = `{${(isFirst ? parts : parts.toReversed()).join()}}`;
        const written = members.findLast(([key]) => JSON.parse(key) === 'payload')?.[1] ?? '{}';
        expect(textsOf(message).payload).toBe(compact(written));
      }),
      { numRuns: 500 },
    );
  });

  it('that is missing is {}, and null stays null', () => {
    expect(textsOf('{"type":"t","event":"e"}').payload).toBe('{}');
    expect(textsOf('{"type":"t","event":"e","payload": null }').payload).toBe('null');
  });
});

describe('a ref', () => {
  it.each(['1152921506151679042', '1.0', '1e2', '-0', '"\\u0061"', '"b"'])(
    'is kept as it was written: %s',
    (ref) => {
      expect(textsOf(`{"ref":null,"type":"t","event":"e","ref" : ${ref}\n}`).ref).toBe(ref);
    },
  );
});

describe('decoding', () => {
  const junk = fc.oneof(fc.jsonValue(), fc.constantFrom<unknown>('', 0, -1, null, 'x'.repeat(300)));
  const almost = fc.record(
    { type: junk, event: junk, payload: fc.jsonValue(), ref: junk, colour: junk },
    { requiredKeys: [] },
  );

  it('never throws, and returns a message or a small error', () => {
    const bytes = fc.oneof(
      fc.uint8Array({ maxLength: 200, size: 'max' }).map((data) => Buffer.from(data)),
      almost.map((value) => Buffer.from(JSON.stringify(value))),
      fc.jsonValue().map((value) => Buffer.from(JSON.stringify(value).slice(1))),
    );
    fc.assert(
      fc.property(bytes, fc.boolean(), (data, isBinary) => {
        const result = decode(data, isBinary);
        if ('message' in result) {
          expect(isBinary).toBe(false);
          expect(JSON.parse(data.toString())).toMatchObject({
            type: result.message.type,
            event: result.message.event,
          });
          return;
        }
        expect(result.error).toBeInstanceOf(ProtocolError);
        expect(JSON.stringify(result.error.body).length).toBeLessThan(1_000);
      }),
      { numRuns: 500 },
    );
  });

  it('finds in an invalid message every ref that it accepts in a valid one', () => {
    const ref = fc.oneof(
      fc.double({ min: 0, noNaN: true, noDefaultInfinity: true, noInteger: false }),
      fc.nat(),
      fc.string({ unit: 'grapheme', maxLength: LIMITS.refLength + 6, size: 'max' }),
      junk,
    );
    fc.assert(
      fc.property(ref, (value) => {
        const valid = decode(Buffer.from(JSON.stringify({ type: 't', event: 'e', ref: value })), false);
        const invalid = decode(Buffer.from(JSON.stringify({ type: 't', ref: value })), false);
        if ('message' in invalid) throw new Error('a message without an event was accepted');
        expect(invalid.ref).toEqual('message' in valid ? valid.message.ref : undefined);
      }),
    );
  });
});
