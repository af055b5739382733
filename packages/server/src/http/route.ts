import type { IncomingMessage, ServerResponse } from 'node:http';
import type { TypeBoxTypeProvider } from '@fastify/type-provider-typebox';
import type { FastifyBaseLogger, FastifyInstance, RawServerDefault } from 'fastify';
import type { TSchema } from 'typebox';
import type { Access } from './access.js';
import { Failure } from './schemas.js';

/** The Fastify instance; handlers get their types from schemas. */
export type App = FastifyInstance<
  RawServerDefault,
  IncomingMessage,
  ServerResponse,
  FastifyBaseLogger,
  TypeBoxTypeProvider
>;

/** The access of a route, and its texts in OpenAPI. */
interface RouteFacts {
  readonly access: Access;
  readonly tag: 'Channels' | 'Messages' | 'Presence' | 'Row changes' | 'Monitoring';
  readonly summary: string;
  readonly description?: string;
  /** Whether the handler waits for PostgreSQL. */
  readonly needsPostgres?: boolean;
}

/** Returns the options of a route: its access, and its schema with the texts of OpenAPI. */
export function route<const Schema extends Record<string, unknown>>(
  { access, tag, summary, description, needsPostgres = false }: RouteFacts,
  schema: Schema,
  answers: Readonly<Record<number | string, TSchema>>,
): {
  config: { access: Access; needsPostgres: boolean };
  schema: Schema & { response: Record<string, TSchema> };
} {
  const isPublic = access === 'public';
  const documentation = {
    tags: [tag],
    summary,
    description: [description, accessText(access)].filter(Boolean).join('\n\n'),
    security: isPublic ? [] : [{ token: [] }],
  };
  return {
    config: { access, needsPostgres },
    schema: {
      ...documentation,
      ...schema,
      response: { ...answers, ...(isPublic ? {} : { '4xx': Failure }) },
    },
  };
}

function accessText(access: Access): string {
  switch (access) {
    case 'public':
      return '';
    case 'token':
      return 'Needs a token.';
    case 'server-admin':
      return "Needs a server admin's token.";
    default: {
      const permission = `Needs \`${access.channel}\` permission in the channel`;
      return access.channel === 'admin'
        ? `${permission}.`
        : `${permission}, and a token if the channel requires one.`;
    }
  }
}
