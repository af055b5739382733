import { PRESENCE_MODES } from '@goforward/realtime-protocol/schemas';
import { Type } from 'typebox';
import { invalid } from '../error-reply.js';
import { type App, route } from '../route.js';
import { ChannelParams, Failure } from '../schemas.js';

const HandshakeQuery = Type.Object({
  token: Type.Optional(
    Type.String({ description: 'a token; or Authorization, or the sub-protocol bearer.<token>' }),
  ),
  echo: Type.Optional(
    Type.Union([Type.Literal('true'), Type.Literal('false')], { description: 'false: not my own messages' }),
  ),
  presence: Type.Optional(
    Type.Union(
      PRESENCE_MODES.map((mode) => Type.Literal(mode)),
      { description: 'how presence is told: one message each, merged ones, or none' },
    ),
  ),
});

/** The WebSocket endpoint as OpenAPI shows it. Upgrades go past the router (upgrade.ts); what comes here is none. */
export function webSocketRoute(app: App): void {
  const facts = {
    access: 'public',
    tag: 'Messages',
    summary: 'Connect to a channel by WebSocket',
    description: 'A WebSocket handshake with a token. Answers 101, then messages as JSON text.',
  } as const;
  const { config, schema } = route(
    facts,
    { params: ChannelParams, querystring: HandshakeQuery },
    { 101: Type.Null({ description: 'The connection is a WebSocket from here on' }), '4xx': Failure },
  );
  const handler = () => {
    throw invalid('upgrade', 'this endpoint takes WebSocket handshakes');
  };
  app.get('/realtime/channels/:name/ws', { config, schema, onRequest: handler }, handler);
}
