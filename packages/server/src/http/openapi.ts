import { readdirSync, readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import swagger from '@fastify/swagger';
import swaggerUi from '@fastify/swagger-ui';
import { ProtocolError } from '@goforward/realtime-protocol';
import type { FastifyReply, FastifyRequest } from 'fastify';
import { type ConstantAnswer, constantAnswer, sendConstant } from './constant-answer.js';
import { fileType } from './file-type.js';
import type { App } from './route.js';

/**
 * Content security policy of `/docs`. The plugin's own allows other hosts, and upgrades to TLS, which this
 * server lacks.
 */
const DOCS_POLICY = [
  "default-src 'self'",
  "img-src 'self' data:",
  "object-src 'none'",
  "script-src-attr 'none'",
  "base-uri 'none'",
  "form-action 'none'",
  "frame-ancestors 'none'",
].join('; ');

/** Collects the schemas of routes for OpenAPI. Must be called before routes are added. */
export async function collectOpenApi(app: App, version: string): Promise<void> {
  await app.register(swagger, {
    openapi: {
      openapi: '3.1.0',
      info: {
        title: 'GoForward Realtime',
        version,
        description:
          'Channels, presence, broadcast and row changes. Clients connect by WebSocket to `/realtime/channels/{name}/ws`; servers and tools use this API.',
      },
      components: { securitySchemes: { token: { type: 'http', scheme: 'bearer', bearerFormat: 'JWT' } } },
    },
  });
}

/** `/openapi.json`: the collected document. */
export function openApiRoute(app: App): void {
  app.get('/openapi.json', { schema: { hide: true }, config: { access: 'public' } }, openApiDocument(app));
}

/** `/docs`: the document as a page to read and try, without files of other hosts. */
export async function docsRoutes(app: App): Promise<void> {
  await app.register(async (scope) => {
    // The plugin reads its files and formats the document for each request; the server keeps them in memory.
    const constants: Readonly<Record<string, RouteHandler>> = {
      '/docs/json': openApiDocument(app),
      '/docs/yaml': constantHandler(() =>
        constantAnswer('application/x-yaml', Buffer.from(app.swagger({ yaml: true }))),
      ),
      '/docs/static/*': docsFile(),
    };
    scope.addHook('onRoute', (options) => {
      options.config = { ...options.config, access: 'public' };
      options.handler = constants[options.url] ?? options.handler;
    });
    await scope.register(swaggerUi, {
      routePrefix: '/docs',
      uiConfig: {
        docExpansion: 'list',
        persistAuthorization: false,
        displayRequestDuration: true,
        validatorUrl: null,
      },
      staticCSP: DOCS_POLICY,
      theme: { title: 'GoForward Realtime API' },
    });
  });
}

type RouteHandler = (request: FastifyRequest, reply: FastifyReply) => Promise<FastifyReply>;

function openApiDocument(app: App): RouteHandler {
  return constantHandler(() =>
    constantAnswer('application/json; charset=utf-8', Buffer.from(JSON.stringify(app.swagger()))),
  );
}

/** Sends what `create` returns. It is called once, for the first request: the routes are known by then. */
function constantHandler(create: () => ConstantAnswer): RouteHandler {
  let answer: ConstantAnswer | undefined;
  return (request, reply) => {
    answer ??= create();
    return sendConstant(request, reply, answer);
  };
}

/** Sends a file of the plugin's folder, which is read when it is first asked for. */
function docsFile(): RouteHandler {
  const plugin = createRequire(import.meta.url).resolve('@fastify/swagger-ui');
  const folder = join(dirname(plugin), 'static');
  const files = new Map(
    readdirSync(folder).map((name) => [
      name,
      constantHandler(() => constantAnswer(fileType(name), readFileSync(join(folder, name)))),
    ]),
  );
  return async (request, reply) => {
    const send = files.get((request.params as { '*': string })['*']);
    if (send === undefined) throw new ProtocolError('NOT_FOUND');
    return send(request, reply);
  };
}
