import { LIMITS, ProtocolError } from '@goforward/realtime-protocol';
import type { FastifyRequest } from 'fastify';
import { JsonError, parseJson } from '../lib/json.js';
import type { App } from './route.js';

declare module 'fastify' {
  interface FastifyRequest {
    /** Size of the request's body, in bytes. */
    bodyBytes: number;
  }
}

/**
 * Parses JSON bodies of limited depth, an empty one as `{}`, and sets `bodyBytes`. Other types are rejected.
 */
export function readJsonBodies(app: App): void {
  app.decorateRequest('bodyBytes', 0);
  app.removeAllContentTypeParsers();
  app.addContentTypeParser(
    'application/json',
    { parseAs: 'buffer' },
    async (request: FastifyRequest, bytes: Buffer) => {
      request.bodyBytes = bytes.length;
      if (bytes.length === 0) return {};
      try {
        return parseJson(bytes, LIMITS.jsonDepth);
      } catch (error) {
        if (!(error instanceof JsonError)) throw error;
        throw new ProtocolError('INVALID_JSON', { details: error.message });
      }
    },
  );
  app.addHook('preValidation', async (request) => {
    if (request.routeOptions.schema?.body !== undefined && request.body === undefined) request.body = {};
  });
}
