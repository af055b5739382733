import { readdirSync, readFileSync } from 'node:fs';
import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify';
import { type ConstantAnswer, constantAnswer, sendConstant } from './constant-answer.js';
import { fileType } from './file-type.js';

const FOLDER = new URL('../../page/', import.meta.url);
/**
 * Allows only files of this server, nothing inline and no frames: a framing page could trick a user into
 * clicks.
 */
const POLICY = [
  "default-src 'none'",
  "script-src 'self'",
  "style-src 'self'",
  "img-src 'self'",
  "connect-src 'self'",
  "base-uri 'none'",
  "form-action 'none'",
  "frame-ancestors 'none'",
].join('; ');

/** Serves the page at `/` and `/test_websocket.html`, and its files below `/page/`, from memory. */
export function pageRoutes(app: FastifyInstance): void {
  const files = new Map(readdirSync(FOLDER).map((name) => [name, readPageFile(name)]));
  const index = files.get('index.html');
  if (index === undefined) throw new Error('page/index.html is missing');
  const options = { schema: { hide: true }, config: { access: 'public' } } as const;
  for (const url of ['/', '/test_websocket.html']) {
    app.get(url, options, (request, reply) => send(request, reply, index));
  }
  for (const [name, file] of files) {
    app.get(`/page/${name}`, options, (request, reply) => send(request, reply, file));
  }
}

function readPageFile(name: string): ConstantAnswer {
  return constantAnswer(fileType(name), readFileSync(new URL(name, FOLDER)));
}

function send(request: FastifyRequest, reply: FastifyReply, file: ConstantAnswer): Promise<FastifyReply> {
  reply.headers({
    'content-security-policy': POLICY,
    'cross-origin-opener-policy': 'same-origin',
  });
  return sendConstant(request, reply, file);
}
