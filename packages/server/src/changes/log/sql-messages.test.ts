import { createHash } from 'node:crypto';
import fc from 'fast-check';
import { beforeEach, describe, expect, it } from 'vitest';
import { compact, valueText } from '../../../../../tests/support/json-arbitraries.js';
import { RecordingLog } from '../../../../../tests/support/recording-log.js';
import { SqlMessages } from './sql-messages.js';

const SECRET = Buffer.from('a secret of thirty-two bytes 123');
const XID = 7;
const POSITION = { epoch: 'e', position: { commitLsn: 1n, index: 0 }, commitTime: 1_736_937_000_000_000n };

let now: number;
let log: RecordingLog;
let counters: { sqlMessages: number; sqlMessagesRefused: number };
let messages: SqlMessages;

beforeEach(async () => {
  now = 0;
  log = new RecordingLog();
  counters = { sqlMessages: 0, sqlMessagesRefused: 0 };
  messages = await sqlMessages();
});

async function sqlMessages(enabled = true): Promise<SqlMessages> {
  const created = new SqlMessages({
    database: { schema: 'realtime', query: async <T>() => [{ secret: SECRET }] as T[] },
    enabled,
    maxBytes: 100_000,
    frame: (json) => Buffer.from(json),
    counters,
    clock: () => now,
    log,
  });
  await created.load();
  return created;
}

/** Signs content as the SQL function does. */
function signed(json: string): Buffer {
  const sha256 = (bytes: Buffer) =>
    createHash('sha256')
      .update(Buffer.concat([SECRET, bytes]))
      .digest();
  const digest = sha256(sha256(Buffer.from(`${XID}:${json}`))).toString('hex');
  return Buffer.from(digest + json);
}

const content = (payload: string) =>
  `{"channel" : "jobs", "event" : "e", "type" : "message", "payload" : ${payload}}`;
const nested = (levels: number) => '['.repeat(levels) + ']'.repeat(levels);

describe('a message from SQL', () => {
  it('is sent with its payload as PostgreSQL wrote it', () => {
    fc.assert(
      fc.property(
        valueText.filter((text) => text !== 'null'),
        (payload) => {
          const message = messages.read(signed(content(payload)), XID);
          if (message === undefined) throw new Error('the message was dropped');
          const text = messages.encode(message, POSITION).toString();
          expect(text).toContain(`"event":"e","payload":${compact(payload)},"user_id":"system"`);
          expect(JSON.parse(text)).toMatchObject({ type: 'message', cursor: expect.any(String) });
        },
      ),
    );
  });

  it('without a payload has the payload {}', () => {
    const message = messages.read(signed(content('null')), XID);
    if (message === undefined) throw new Error('the message was dropped');
    expect(JSON.parse(messages.encode(message, POSITION).toString())).toMatchObject({ payload: {} });
  });

  it('may have a payload of 64 levels', () => {
    expect(messages.read(signed(content(nested(64))), XID)).toBeDefined();
    expect(messages.read(signed(content(nested(65))), XID)).toBeUndefined();
  });

  it.each([
    ['deeper than any stack', content(nested(40_000))],
    ['no JSON', '{"channel":"jobs"'],
    ['no object', '[]'],
    ['null', 'null'],
    ['without a channel', '{"event":"e","type":"message"}'],
    ['with a channel that is no text', '{"channel":7,"event":"e","type":"message"}'],
    ['with an event that is no text', '{"channel":"jobs","event":{},"type":"message"}'],
    ['with an event that is too long', `{"channel":"jobs","event":"${'x'.repeat(201)}","type":"message"}`],
    ['of an unknown type', '{"channel":"jobs","event":"e","type":"system"}'],
    ['that is too large', content(`"${'x'.repeat(100_000)}"`)],
  ])('that is %s is dropped, counted and logged', (_, json) => {
    expect(messages.read(signed(json), XID)).toBeUndefined();
    expect(counters).toEqual({ sqlMessages: 0, sqlMessagesRefused: 1 });
    expect(log.errors).toHaveLength(1);
  });

  it('of another transaction, without a digest or while broadcast is off is dropped', async () => {
    expect(messages.read(signed(content('1')), XID + 1)).toBeUndefined();
    expect(messages.read(Buffer.from(content('1')), XID)).toBeUndefined();
    expect((await sqlMessages(false)).read(signed(content('1')), XID)).toBeUndefined();
    expect(counters.sqlMessagesRefused).toBe(3);
  });

  it('that is dropped is logged at a limited rate, without its content', () => {
    for (let n = 0; n < 1_000; n++) messages.read(signed(content(nested(65))), XID);
    now += 10_000;
    messages.read(signed(content(nested(65))), XID);
    expect(log.errors).toEqual([
      expect.stringContaining('"reason":"invalid"'),
      expect.stringContaining('"suppressed":999'),
    ]);
    expect(log.errors.join()).not.toContain('jobs');
  });
});
