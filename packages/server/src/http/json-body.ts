import { isUtf8 } from 'node:buffer';
import { LIMITS, ProtocolError } from '@goforward/realtime-protocol';
import type { FastifyRequest } from 'fastify';
import { JsonError, parseJson } from '../lib/json.js';
import type { JsonText } from '../lib/json-text.js';
import type { App } from './route.js';

declare module 'fastify' {
  interface FastifyRequest {
    /** Size of the request's body, in bytes. */
    bodyBytes: number;
    /** The fields of the body as they were written. */
    bodyTexts: ReadonlyMap<string, JsonText> | null;
  }
}

/**
 * Parses JSON bodies in UTF-8 of limited depth, an empty one as `{}`, and sets `bodyBytes` and `bodyTexts`. Other types
 * are rejected.
 */
export function readJsonBodies(app: App): void {
  app.decorateRequest('bodyBytes', 0);
  app.decorateRequest('bodyTexts', null);
  app.removeAllContentTypeParsers();
  app.addContentTypeParser(
    'application/json',
    { parseAs: 'buffer' },
    async (request: FastifyRequest, bytes: Buffer) => {
      request.bodyBytes = bytes.length;
      if (bytes.length === 0) return {};
      if (!isUtf8(bytes)) throw new ProtocolError('INVALID_JSON', { details: 'not valid UTF-8' });
      try {
        const { value, members } = parseJson(bytes, LIMITS.jsonDepth);
        request.bodyTexts = members;
        return value;
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

/** Returns a field of the body as it was written; undefined for a missing one. */
export function bodyText(request: FastifyRequest, field: string): JsonText | undefined {
  return request.bodyTexts?.get(field);
}
