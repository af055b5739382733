import swagger from '@fastify/swagger';
import swaggerUi from '@fastify/swagger-ui';
import type { App } from './route.js';

/** The plugin's own policy lets in fonts, styles and images of other hosts, and asks for TLS where we speak none. */
const DOCS_POLICY = [
  "default-src 'self'",
  "img-src 'self' data:",
  "object-src 'none'",
  "script-src-attr 'none'",
  "base-uri 'none'",
  "form-action 'none'",
  "frame-ancestors 'none'",
].join('; ');

/** Has the route schemas gathered; to be called before there are routes. */
export async function gatherOpenApi(app: App, version: string): Promise<void> {
  await app.register(swagger, {
    openapi: {
      openapi: '3.1.0',
      info: {
        title: 'GoForward Realtime',
        version,
        description:
          'Channels, presence and broadcast. Clients connect by WebSocket to `/realtime/channels/{name}/ws`; this API is for everything beside it.',
      },
      components: { securitySchemes: { token: { type: 'http', scheme: 'bearer', bearerFormat: 'JWT' } } },
    },
  });
}

/** `/openapi.json`: what was gathered. */
export function openApiRoute(app: App): void {
  app.get('/openapi.json', { schema: { hide: true }, config: { access: 'public' } }, async () =>
    app.swagger(),
  );
}

/** `/docs`: the same to read and try, all of it served from here. */
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
