import type { IncomingMessage, ServerResponse } from 'node:http';
import type { TypeBoxTypeProvider } from '@fastify/type-provider-typebox';
import type { FastifyBaseLogger, FastifyInstance, RawServerDefault } from 'fastify';
import type { TSchema } from 'typebox';
import type { Access } from './access.js';
import { Failure } from './schemas.js';

/** The Fastify of this server: handlers know the types of their schemas. */
export type App = FastifyInstance<
  RawServerDefault,
  IncomingMessage,
  ServerResponse,
  FastifyBaseLogger,
  TypeBoxTypeProvider
>;

/** What every route says of itself, for the guard and for OpenAPI. */
interface RouteFacts {
  readonly access: Access;
  readonly tag: 'Channels' | 'Messages' | 'Presence' | 'Row changes' | 'Monitoring';
  readonly summary: string;
  readonly description?: string;
}

/** The route options that follow from its facts: who may call it, and what OpenAPI says about that. */
export function route<const Schema extends Record<string, unknown>>(
  { access, tag, summary, description }: RouteFacts,
  schema: Schema,
  answers: Readonly<Record<number | string, TSchema>>,
): {
  config: { access: Access };
  schema: Schema & { response: Record<string, TSchema> };
} {
  const isPublic = access === 'public';
  const documentation = {
    tags: [tag],
    summary,
    description: [description, needs(access)].filter(Boolean).join('\n\n'),
    security: isPublic ? [] : [{ token: [] }],
  };
  return {
    config: { access },
    schema: {
      ...documentation,
      ...schema,
      response: { ...answers, ...(isPublic ? {} : { '4xx': Failure }) },
    },
  };
}

function needs(access: Access): string {
  switch (access) {
    case 'public':
      return '';
    case 'token':
      return 'Needs a token.';
    case 'server-admin':
      return "Needs a server admin's token.";
    default: {
      const needed = `Needs the right \`${access.channel}\` in the channel`;
      return access.channel === 'admin'
        ? `${needed}.`
        : `${needed}, and a token where the channel requires one.`;
    }
  }
}
