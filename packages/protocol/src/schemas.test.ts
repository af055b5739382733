import { createHash } from 'node:crypto';
import { Compile } from 'typebox/compile';
import { describe, expect, it } from 'vitest';
import { ClientMessage, PRESENCE_MODES, PresenceUpdate, SERVER_MESSAGES } from './schemas.js';

/**
 * When the wire is meant to change: see that old clients understand the new messages (fields may be added, none
 * may go, be renamed or change its type), write the change into the reference, then put the new hash here.
 */
const WIRE = '9775926ee523da66bd6584db974d1f8a88605e9647bde5a8215c32b06f15f380';

/** JSON with sorted keys: moving a line in a schema changes nothing on the wire. */
function stable(value: unknown): string {
  if (Array.isArray(value)) return `[${value.map(stable).join(',')}]`;
  if (typeof value !== 'object' || value === null) return JSON.stringify(value);
  const fields = Object.entries(value).sort(([a], [b]) => (a < b ? -1 : 1));
  return `{${fields.map(([key, field]) => `${JSON.stringify(key)}:${stable(field)}`).join(',')}}`;
}

describe('the wire', () => {
  it('does not change by accident', () => {
    const wire = stable({ ClientMessage, PresenceUpdate, SERVER_MESSAGES, PRESENCE_MODES });
    expect(createHash('sha256').update(wire).digest('hex')).toBe(WIRE);
  });

  it.each(Object.entries(SERVER_MESSAGES))(
    'the schema of %s names its own type and event',
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
    { type: 'message', event: 'e', user_id: 7, id: {}, timestamp: [], colour: 'a field that nobody knows' },
  ])('is %j', (message) => {
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
  ])('is not %j', (message) => {
    expect(validator.Check(message)).toBe(false);
  });
});
