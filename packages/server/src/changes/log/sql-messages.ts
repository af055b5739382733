import { createHash, timingSafeEqual } from 'node:crypto';
import { CHANNEL_NAME_PATTERN, LIMITS } from '@goforward/realtime-protocol';
import { Type } from 'typebox';
import { Compile } from 'typebox/compile';
import { SYSTEM_USER } from '../../auth/identity.js';
import type { Framer } from '../../channels/message-encoder.js';
import type { Clock } from '../../lib/clock.js';
import { JsonError, type ParsedJson, parseJson } from '../../lib/json.js';
import { EMPTY_OBJECT, type JsonText, stringify } from '../../lib/json-text.js';
import type { Log } from '../../lib/log.js';
import { RateLimitedLog } from '../../lib/rate-limited-log.js';
import type { Sql } from '../../postgres/sql/sql.js';
import { formatCursor, type Position } from '../model/position.js';

/** A message that `realtime.send` wrote to the WAL. */
export interface SqlMessage {
  readonly channel: string;
  readonly type: 'message' | 'broadcast';
  readonly event: string;
  readonly payload: JsonText;
}

/** Counts messages that were sent by SQL. */
interface SqlMessageCounters {
  sqlMessages: number;
  sqlMessagesRefused: number;
}

export interface SqlMessagesParts {
  readonly database: Sql & { readonly schema: string };
  /** False: broadcasting is off, and messages sent by SQL are refused. */
  readonly enabled: boolean;
  /** The largest message, in bytes. */
  readonly maxBytes: number;
  readonly frame: Framer;
  readonly counters: SqlMessageCounters;
  readonly clock: Clock;
  readonly log: Log;
}

/** Why a message is dropped. */
type Refusal = 'broadcast is off' | 'too large' | 'forged' | 'invalid';

const DIGEST_LENGTH = 64;
/** The levels of a payload within the object that our function writes. */
const MAX_DEPTH = 1 + LIMITS.jsonDepth;

/** The fields of a message but for its payload, which is any JSON. */
const validator = Compile(
  Type.Object({
    channel: Type.String({ pattern: CHANNEL_NAME_PATTERN }),
    type: Type.Union([Type.Literal('message'), Type.Literal('broadcast')]),
    event: Type.String({ minLength: 1, maxLength: LIMITS.eventLength }),
  }),
);

/**
 * Verifies and encodes messages that were sent by SQL. Any login can write messages to the WAL, so each of ours carries
 * a digest of its content and its transaction, which only the owner of our function can compute.
 */
export class SqlMessages {
  readonly #parts: SqlMessagesParts;
  readonly #log: RateLimitedLog<Refusal>;
  #secret: Buffer | undefined;

  constructor(parts: SqlMessagesParts) {
    this.#parts = parts;
    this.#log = new RateLimitedLog(parts.log, parts.clock);
  }

  /** Reads the secret. Called each time the database becomes available. */
  async load(): Promise<void> {
    const { database } = this.#parts;
    const [row] = await database.query<{ secret: Buffer }>(
      `SELECT secret FROM ${database.schema}.message_secret`,
    );
    this.#secret = row?.secret;
  }

  /**
   * Returns the message; undefined if our function did not write it or it may not be sent. Never throws: a bad message
   * is dropped alone, counted and logged, and the changes beside it are delivered.
   */
  read(content: Buffer, xid: number): SqlMessage | undefined {
    const { counters } = this.#parts;
    const message = this.#read(content, xid);
    if (typeof message === 'object') {
      counters.sqlMessages += 1;
      return message;
    }
    counters.sqlMessagesRefused += 1;
    this.#log.error(message, { reason: message, bytes: content.length }, 'SQL message dropped');
    return undefined;
  }

  /** Encodes a message for members. The bytes are the same each time the WAL is read. */
  encode(
    { type, event, payload }: SqlMessage,
    { epoch, position, commitTime }: { epoch: string; position: Position; commitTime: bigint },
  ): Buffer {
    const milliseconds = commitTime / 1000n;
    const { commitLsn, index } = position;
    return this.#parts.frame(
      stringify({
        id: `msg_${milliseconds}_${epoch}${commitLsn.toString(36)}x${index.toString(36)}`,
        type,
        event,
        payload: payload.text === 'null' ? EMPTY_OBJECT : payload,
        user_id: SYSTEM_USER,
        timestamp: new Date(Number(milliseconds)).toISOString(),
        cursor: formatCursor({ epoch, position }),
      }),
    );
  }

  #read(content: Buffer, xid: number): SqlMessage | Refusal {
    const { enabled, maxBytes } = this.#parts;
    if (!enabled) return 'broadcast is off';
    if (content.length - DIGEST_LENGTH > maxBytes) return 'too large';
    const json = content.subarray(DIGEST_LENGTH);
    if (!this.#isGenuine(content, json, xid)) return 'forged';
    return messageOf(json) ?? 'invalid';
  }

  /** Whether `content` begins with the digest of the rest. */
  #isGenuine(content: Buffer, json: Buffer, xid: number): boolean {
    if (this.#secret === undefined) return false;
    const digest = Buffer.from(content.toString('latin1', 0, DIGEST_LENGTH), 'hex');
    const expected = digestOf(this.#secret, Buffer.concat([Buffer.from(`${xid}:`), json]));
    return digest.length === expected.length && timingSafeEqual(digest, expected);
  }
}

/** Returns undefined for JSON that is invalid, nested too deeply, or no message. */
function messageOf(json: Buffer): SqlMessage | undefined {
  let parsed: ParsedJson;
  try {
    parsed = parseJson(json, MAX_DEPTH);
  } catch (error) {
    if (error instanceof JsonError) return undefined;
    throw error;
  }
  const { value, members } = parsed;
  if (!validator.Check(value)) return undefined;
  const { channel, type, event } = value;
  return { channel, type, event, payload: members.get('payload') ?? EMPTY_OBJECT };
}

/** Computes the digest as our SQL function does: keyed twice, so that nothing can be appended. */
function digestOf(secret: Buffer, message: Buffer): Buffer {
  const inner = createHash('sha256').update(secret).update(message).digest();
  return createHash('sha256').update(secret).update(inner).digest();
}
