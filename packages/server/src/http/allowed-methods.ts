import { ProtocolError } from '@goforward/realtime-protocol';
import type { FastifyInstance } from 'fastify';

const METHODS = ['GET', 'HEAD', 'POST', 'PUT', 'PATCH', 'DELETE'];

/** Notes which methods each path has; the function that it answers adds 405 with `Allow` for all others. */
export function collectMethods(app: FastifyInstance): () => void {
  const byPath = new Map<string, Set<string>>();
  app.addHook('onRoute', ({ url, method }) => {
    if (url.includes('*')) return;
    const methods = byPath.get(url) ?? new Set<string>();
    for (const name of [method].flat()) methods.add(name);
    // Where there is the one there is the other; of a path with and without a slash Fastify tells only one each.
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
        // Before the body is read: it may be of a kind that no route takes.
        onRequest: async (_request, reply) => {
          reply.header('allow', allow);
          throw new ProtocolError('METHOD_NOT_ALLOWED');
        },
        handler: async () => undefined,
      });
    }
  };
}
