import { PRESENCE_MODES } from '@goforward/realtime-protocol/schemas';
import { Type } from 'typebox';
import { invalid } from '../error-reply.js';
import { type App, route } from '../route.js';
import { ChannelParams, Failure } from '../schemas.js';

const HandshakeQuery = Type.Object({
  token: Type.Optional(
    Type.String({
      description: 'Token. It can also be in Authorization or in the sub-protocol bearer.<token>.',
    }),
  ),
  echo: Type.Optional(
    Type.Union([Type.Literal('true'), Type.Literal('false')], {
      description: 'Whether the client receives its own messages. Default: true.',
    }),
  ),
  presence: Type.Optional(
    Type.Union(
      PRESENCE_MODES.map((mode) => Type.Literal(mode)),
      { description: 'Presence messages: one per change (each, the default), merged ones (diff), or none.' },
    ),
  ),
});

/**
 * Documents the WebSocket endpoint in OpenAPI. Handshakes do not pass the router (upgrade.ts): a request that
 * arrives here is not a handshake.
 */
export function webSocketRoute(app: App): void {
  const facts = {
    access: 'public',
    tag: 'Messages',
    summary: 'Connect to a channel by WebSocket',
    description: 'Answers a WebSocket handshake with 101. Messages are JSON in text frames.',
  } as const;
  const { config, schema } = route(
    facts,
    { params: ChannelParams, querystring: HandshakeQuery },
    { 101: Type.Null({ description: 'The connection is now a WebSocket.' }), '4xx': Failure },
  );
  const handler = () => {
    throw invalid('upgrade', 'this endpoint accepts only WebSocket handshakes');
  };
  app.get('/realtime/channels/:name/ws', { config, schema, onRequest: handler }, handler);
}
