import { createHash, timingSafeEqual } from 'node:crypto';
import { CHANNEL_NAME_PATTERN, LIMITS } from '@goforward/realtime-protocol';
import { SYSTEM_USER } from '../../auth/identity.js';
import type { Framer } from '../../channels/message-encoder.js';
import type { Sql } from '../../postgres/sql/sql.js';
import { formatCursor, type Position } from '../model/position.js';

/** A message that `realtime.send` wrote to the WAL. */
export interface SqlMessage {
  readonly channel: string;
  readonly type: 'message' | 'broadcast';
  readonly event: string;
  readonly payload: unknown;
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
}

const DIGEST_LENGTH = 64;
const CHANNEL_NAME = new RegExp(CHANNEL_NAME_PATTERN);

/**
 * Verifies and encodes messages that were sent by SQL. Any login can write messages to the WAL, so each of ours carries
 * a digest of its content and its transaction, which only the owner of our function can compute.
 */
export class SqlMessages {
  readonly #parts: SqlMessagesParts;
  #secret: Buffer | undefined;

  constructor(parts: SqlMessagesParts) {
    this.#parts = parts;
  }

  /** Reads the secret. Called each time the database becomes available. */
  async load(): Promise<void> {
    const { database } = this.#parts;
    const [row] = await database.query<{ secret: Buffer }>(
      `SELECT secret FROM ${database.schema}.message_secret`,
    );
    this.#secret = row?.secret;
  }

  /** Returns the message; undefined if our function did not write it or it may not be sent. */
  read(content: Buffer, xid: number): SqlMessage | undefined {
    const message = this.#verified(content, xid);
    const { counters, enabled, maxBytes } = this.#parts;
    const isValid =
      message !== undefined &&
      enabled &&
      content.length - DIGEST_LENGTH <= maxBytes &&
      CHANNEL_NAME.test(message.channel) &&
      (message.type === 'message' || message.type === 'broadcast') &&
      message.event.length >= 1 &&
      message.event.length <= LIMITS.eventLength;
    if (isValid) counters.sqlMessages += 1;
    else counters.sqlMessagesRefused += 1;
    return isValid ? message : undefined;
  }

  /** Encodes a message for members. The bytes are the same each time the WAL is read. */
  encode(
    { type, event, payload }: SqlMessage,
    { epoch, position, commitTime }: { epoch: string; position: Position; commitTime: bigint },
  ): Buffer {
    const milliseconds = commitTime / 1000n;
    const { commitLsn, index } = position;
    return this.#parts.frame(
      JSON.stringify({
        id: `msg_${milliseconds}_${epoch}${commitLsn.toString(36)}x${index.toString(36)}`,
        type,
        event,
        payload: payload ?? {},
        user_id: SYSTEM_USER,
        timestamp: new Date(Number(milliseconds)).toISOString(),
        cursor: formatCursor({ epoch, position }),
      }),
    );
  }

  #verified(content: Buffer, xid: number): SqlMessage | undefined {
    if (this.#secret === undefined || content.length <= DIGEST_LENGTH) return undefined;
    const digest = Buffer.from(content.toString('latin1', 0, DIGEST_LENGTH), 'hex');
    const text = content.subarray(DIGEST_LENGTH);
    const expected = digestOf(this.#secret, Buffer.concat([Buffer.from(`${xid}:`), text]));
    if (digest.length !== expected.length || !timingSafeEqual(digest, expected)) return undefined;
    return JSON.parse(text.toString()) as SqlMessage;
  }
}

/** Computes the digest as our SQL function does: keyed twice, so that nothing can be appended. */
function digestOf(secret: Buffer, message: Buffer): Buffer {
  const inner = createHash('sha256').update(secret).update(message).digest();
  return createHash('sha256').update(secret).update(inner).digest();
}
