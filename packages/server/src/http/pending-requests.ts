import type { FastifyInstance, FastifyRequest } from 'fastify';
import { type PendingWork, RequestDropped } from '../connections/pending-work.js';
import { callerOf } from './access.js';

declare module 'fastify' {
  interface FastifyContextConfig {
    /** Whether the handler waits for PostgreSQL: such requests of a user are bounded. */
    needsPostgres?: boolean;
  }
  interface FastifyRequest {
    /** Set on routes that need PostgreSQL. */
    dropped: AbortSignal | null;
  }
}

/** Bounds how many requests of a user wait for PostgreSQL, and drops those whose client has gone. */
export function boundPendingRequests(app: FastifyInstance, pending: PendingWork): void {
  app.decorateRequest('dropped', null);
  app.addHook('onRoute', (route) => {
    if (route.config?.needsPostgres !== true) return;
    const { handler } = route;
    route.handler = async function bounded(request, reply) {
      const requester = { identity: callerOf(request) };
      reply.raw.once('close', () => pending.drop(requester));
      try {
        return await pending.run(requester, 'http', request.bodyBytes, async (signal) => {
          request.dropped = signal;
          return handler.call(this, request, reply);
        });
      } catch (error) {
        if (!(error instanceof RequestDropped)) throw error;
        // Nobody is there for an answer.
        return reply.hijack();
      }
    };
  });
}

/** Returns the signal that aborts when the client has gone; only on routes that need PostgreSQL. */
export function signalOf(request: FastifyRequest): AbortSignal {
  if (request.dropped === null) throw new Error('the route does not need PostgreSQL');
  return request.dropped;
}
