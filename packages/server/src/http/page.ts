import { createHash } from 'node:crypto';
import { readdirSync, readFileSync } from 'node:fs';
import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify';

const FOLDER = new URL('../../page/', import.meta.url);
const TYPES: Readonly<Record<string, string>> = {
  html: 'text/html; charset=utf-8',
  css: 'text/css; charset=utf-8',
  js: 'text/javascript; charset=utf-8',
  svg: 'image/svg+xml',
};
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

interface PageFile {
  readonly type: string;
  readonly content: Buffer;
  readonly etag: string;
}

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

function readPageFile(name: string): PageFile {
  const content = readFileSync(new URL(name, FOLDER));
  const type = TYPES[name.slice(name.lastIndexOf('.') + 1)];
  if (type === undefined) throw new Error(`page/${name} has an unknown file type`);
  return {
    type,
    content,
    etag: `"${createHash('sha256').update(content).digest('base64url').slice(0, 22)}"`,
  };
}

async function send(request: FastifyRequest, reply: FastifyReply, file: PageFile): Promise<FastifyReply> {
  reply.headers({
    'content-type': file.type,
    etag: file.etag,
    // Checked on every load: a new version of the server must not meet an old script.
    'cache-control': 'no-cache',
    'content-security-policy': POLICY,
    'cross-origin-opener-policy': 'same-origin',
  });
  return request.headers['if-none-match'] === file.etag ? reply.code(304).send() : reply.send(file.content);
}
