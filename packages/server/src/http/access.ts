import { CHANNEL_NAME_PATTERN, ProtocolError } from '@goforward/realtime-protocol';
import type { FastifyInstance, FastifyRequest } from 'fastify';
import type { Identity } from '../auth/identity.js';
import type { TokenVerifier } from '../auth/token-verifier.js';
import type { Channel } from '../channels/channel.js';
import type { ChannelRegistry } from '../channels/channel-registry.js';
import type { Permission, Permissions } from '../channels/permissions.js';
import { invalid } from './error-reply.js';
import { bearerToken } from './token-of-request.js';

/** What a route needs: nothing, a token, a server admin's token, or a right in the channel that its path names. */
export type Access = 'public' | 'token' | 'server-admin' | { readonly channel: Permission };

declare module 'fastify' {
  interface FastifyContextConfig {
    access?: Access;
  }
  interface FastifyRequest {
    /** Set on every route but the public ones. */
    identity: Identity | null;
    /** Set on routes that need a right in a channel. */
    channel: Channel | null;
  }
}

export interface AccessParts {
  readonly verifier: TokenVerifier;
  readonly permissions: Permissions;
  readonly channels: ChannelRegistry;
}

const CHANNEL_NAME = new RegExp(CHANNEL_NAME_PATTERN);

/** Checks before the body is read: the token first, then that the channel is there, then the right. */
export function guardRoutes(app: FastifyInstance, { verifier, permissions, channels }: AccessParts): void {
  app.decorateRequest('identity', null);
  app.decorateRequest('channel', null);
  app.addHook('onRequest', async (request) => {
    const access = accessOf(request);
    if (access === 'public') return;
    const token = bearerToken(request.headers);
    if (token === undefined) throw new ProtocolError('AUTH_FAILED', { details: 'A token is needed' });
    const identity = await verifier.verify(token);
    request.identity = identity;
    if (access === 'token') return;
    if (access === 'server-admin') {
      permissions.requireServerAdmin(identity);
      return;
    }
    const name = channelName(request);
    await channels.settled(name);
    const channel = channels.get(name);
    permissions.require(identity, access.channel, channel.config);
    request.channel = channel;
  });
  // The body may have taken long: in the meantime the channel may have gone, or come anew with other lists.
  app.addHook('preHandler', async (request) => {
    const access = accessOf(request);
    if (request.channel === null || typeof access === 'string') return;
    const channel = channels.get(request.channel.name);
    if (channel === request.channel) return;
    permissions.require(callerOf(request), access.channel, channel.config);
    request.channel = channel;
  });
}

/** Who is asking; only on routes that are not public. */
export function callerOf(request: FastifyRequest): Identity {
  if (request.identity === null) throw new Error('a public route asked who is calling');
  return request.identity;
}

/** The channel of the path; only on routes that need a right in it. */
export function channelOf(request: FastifyRequest): Channel {
  if (request.channel === null) throw new Error('a route without a right in a channel asked for it');
  return request.channel;
}

/** A route that forgot to say what it needs is for the server admin alone. */
function accessOf(request: FastifyRequest): Access {
  return request.is404 ? 'public' : (request.routeOptions.config.access ?? 'server-admin');
}

function channelName(request: FastifyRequest): string {
  const { name } = request.params as { name?: string };
  if (name === undefined || !CHANNEL_NAME.test(name)) throw invalid('name', 'is not a channel name');
  return name;
}
