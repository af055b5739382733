import { createHash } from 'node:crypto';
import { Compile } from 'typebox/compile';
import { describe, expect, it } from 'vitest';
import { ClientMessage, PRESENCE_MODES, PresenceUpdate, SERVER_MESSAGES } from './schemas.js';

/**
 * To change the protocol: check that old clients understand the new messages (fields may be added, but not
 * removed, renamed or changed in type), document the change in the reference, then set the new hash here.
 */
const WIRE = '7803f4c8d2fccbc89af5434c5ded7e2fc1ab1da9fe29cc7a6a76328a2d8d4fe0';

/** Serializes as JSON with sorted keys, without descriptions: neither affects the protocol. */
function stable(value: unknown): string {
  if (Array.isArray(value)) return `[${value.map(stable).join(',')}]`;
  if (typeof value !== 'object' || value === null) return JSON.stringify(value);
  const fields = Object.entries(value)
    .filter(([name, field]) => name !== 'description' || typeof field !== 'string')
    .sort(([a], [b]) => (a < b ? -1 : 1));
  return `{${fields.map(([key, field]) => `${JSON.stringify(key)}:${stable(field)}`).join(',')}}`;
}

describe('the protocol', () => {
  it('does not change by accident', () => {
    const wire = stable({ ClientMessage, PresenceUpdate, SERVER_MESSAGES, PRESENCE_MODES });
    expect(createHash('sha256').update(wire).digest('hex')).toBe(WIRE);
  });

  it.each(Object.entries(SERVER_MESSAGES))(
    'has the type and event of its name in the schema of %s',
    (name, schema) => {
      const { type, event } = schema.properties;
      expect(name).toBe(`${type.const}/${'const' in event ? event.const : '*'}`);
    },
  );
});

describe('a message from a client', () => {
  const validator = Compile(ClientMessage);

  it.each([
    { type: 'broadcast', event: 'typing' },
    { type: 'ping', event: 'ping', payload: null },
    { type: 'message', event: 'x'.repeat(200), payload: [1, 'two', { three: 3 }], ref: 0 },
    { type: 'message', event: 'e', ref: 'r'.repeat(64) },
    { type: 'message', event: 'e', user_id: 7, id: {}, timestamp: [], colour: 'an unknown field' },
  ])('may be %j', (message) => {
    expect(validator.Check(message)).toBe(true);
  });

  it.each([
    {},
    null,
    [],
    'ping',
    { type: 'ping' },
    { event: 'ping' },
    { type: '', event: 'ping' },
    { type: 'ping', event: '' },
    { type: 7, event: 'ping' },
    { type: 'ping', event: 'x'.repeat(201) },
    { type: 'ping', event: 'ping', ref: -1 },
    { type: 'ping', event: 'ping', ref: 1.5 },
    { type: 'ping', event: 'ping', ref: '' },
    { type: 'ping', event: 'ping', ref: 'r'.repeat(65) },
    { type: 'ping', event: 'ping', ref: null },
  ])('may not be %j', (message) => {
    expect(validator.Check(message)).toBe(false);
  });
});
