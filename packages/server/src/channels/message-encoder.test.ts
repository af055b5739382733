import { SERVER_MESSAGES } from '@goforward/realtime-protocol/schemas';
import { Compile } from 'typebox/compile';
import { expect, it } from 'vitest';
import { MessageEncoder } from './message-encoder.js';

const NOW = Date.parse('2025-01-15T10:30:00Z');
const encoder = new MessageEncoder((json) => Buffer.from(json), { epochMs: () => NOW });

it('a message has an id, the time and all fields of the protocol', () => {
  const message = encoder.message('message', 'chat', { text: 'hi' }, 'ann');
  expect(message).toEqual({
    id: expect.stringMatching(/^msg_1736937000000_[a-z0-9]{9}$/),
    type: 'message',
    event: 'chat',
    payload: { text: 'hi' },
    user_id: 'ann',
    timestamp: '2025-01-15T10:30:00.000Z',
  });
  expect(Compile(SERVER_MESSAGES['message/*']).Check(message)).toBe(true);
});

it.each([
  [undefined, {}],
  [null, null],
  [0, 0],
  ['', ''],
  [[], []],
])('the payload %j is sent as %j', (given, sent) => {
  expect(encoder.message('message', 'e', given, 'ann').payload).toEqual(sent);
});

it('messages of the same millisecond have different ids', () => {
  const ids = Array.from({ length: 1_000 }, () => encoder.message('pong', 'pong', {}, 'system').id);
  expect(new Set(ids).size).toBe(1_000);
});

it('a message is encoded as JSON in a frame of the framer', () => {
  const framing = new MessageEncoder((json) => Buffer.from(`<${json}>`), { epochMs: () => NOW });
  const message = framing.message('message', 'e', { text: '\uD800 😀' }, 'ann');
  const text = framing.encode(message).toString();
  expect(JSON.parse(text.slice(1, -1))).toEqual(message);
});
