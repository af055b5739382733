import { createHash } from 'node:crypto';
import type { FastifyReply, FastifyRequest } from 'fastify';

/** An answer that is the same for everybody: one Buffer in memory, however many clients get it at once. */
export interface ConstantAnswer {
  readonly type: string;
  readonly content: Buffer;
  readonly etag: string;
}

export function constantAnswer(type: string, content: Buffer): ConstantAnswer {
  const hash = createHash('sha256').update(content).digest('base64url').slice(0, 22);
  return { type, content, etag: `"${hash}"` };
}

/** Sends the answer, or 304 to a client that has it. */
export async function sendConstant(
  request: FastifyRequest,
  reply: FastifyReply,
  { type, content, etag }: ConstantAnswer,
): Promise<FastifyReply> {
  reply.headers({
    'content-type': type,
    etag,
    // Checked on every load: a new version of the server must not meet an old script.
    'cache-control': 'no-cache',
  });
  return names(request.headers['if-none-match'], etag) ? reply.code(304).send() : reply.send(content);
}

/** Returns whether an `If-None-Match` (RFC 9110, section 13.1.2) names this ETag, strong or weak. */
function names(condition: string | undefined, etag: string): boolean {
  if (condition === undefined) return false;
  return condition.split(',').some((item) => ['*', etag, `W/${etag}`].includes(item.trim()));
}
