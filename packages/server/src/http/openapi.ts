import swagger from '@fastify/swagger';
import swaggerUi from '@fastify/swagger-ui';
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
  app.get('/openapi.json', { schema: { hide: true }, config: { access: 'public' } }, async () =>
    app.swagger(),
  );
}

/** `/docs`: the document as a page to read and try, without files of other hosts. */
export async function docsRoutes(app: App): Promise<void> {
  await app.register(async (scope) => {
    scope.addHook('onRoute', (options) => {
      options.config = { ...options.config, access: 'public' };
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
