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
/** Everything from this server and nothing inline; nobody frames the page to have a token's buttons clicked. */
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

/** The page at `/` and `/test_websocket.html` with its files below `/page/`, held in memory. */
export function pageRoutes(app: FastifyInstance): void {
  const files = new Map(readdirSync(FOLDER).map((name) => [name, readPageFile(name)]));
  const index = files.get('index.html');
  if (index === undefined) throw new Error('the page is not there');
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
  if (type === undefined) throw new Error(`the page has a file of unknown kind: ${name}`);
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
    // Asked about each time: a new version of the server must not meet an old script.
    'cache-control': 'no-cache',
    'content-security-policy': POLICY,
    'cross-origin-opener-policy': 'same-origin',
  });
  return request.headers['if-none-match'] === file.etag ? reply.code(304).send() : reply.send(file.content);
}
