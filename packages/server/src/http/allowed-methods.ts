import { ProtocolError } from '@goforward/realtime-protocol';
import type { FastifyInstance } from 'fastify';

const METHODS = ['GET', 'HEAD', 'POST', 'PUT', 'PATCH', 'DELETE'];

/**
 * Collects the methods of each path. The returned function adds routes that answer all other methods with 405
 * and `Allow`.
 */
export function collectMethods(app: FastifyInstance): () => void {
  const byPath = new Map<string, Set<string>>();
  app.addHook('onRoute', ({ url, method }) => {
    if (url.includes('*')) return;
    const methods = byPath.get(url) ?? new Set<string>();
    for (const name of [method].flat()) methods.add(name);
    // GET and HEAD exist together; for a path with and without a slash the hook is called with only one of
    // them.
    if (methods.has('GET') || methods.has('HEAD')) methods.add('GET').add('HEAD');
    byPath.set(url, methods);
  });
  return () => {
    for (const [url, methods] of byPath) {
      const allow = [...methods].join(', ');
      app.route({
        method: METHODS.filter((method) => !methods.has(method)),
        url,
        schema: { hide: true },
        config: { access: 'public' },
        // Before the body is read, which can be of a type that no route accepts.
        onRequest: async (_request, reply) => {
          reply.header('allow', allow);
          throw new ProtocolError('METHOD_NOT_ALLOWED');
        },
        handler: async () => undefined,
      });
    }
  };
}
