import { CHANNEL_NAME_PATTERN, ProtocolError } from '@goforward/realtime-protocol';
import type { FastifyInstance, FastifyRequest } from 'fastify';
import { anonymousIdentity, type Identity } from '../auth/identity.js';
import { missingToken } from '../auth/token-refusal.js';
import type { TokenVerifier } from '../auth/token-verifier.js';
import type { Channel } from '../channels/channel.js';
import type { ChannelRegistry } from '../channels/channel-registry.js';
import type { Permission, Permissions } from '../channels/permissions.js';
import type { IdSource } from '../lib/ids.js';
import type { IpRange } from '../lib/ip-range.js';
import { clientAddress } from './client-address.js';
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
  readonly trustedProxies: readonly IpRange[];
  readonly ids: IdSource;
}

const CHANNEL_NAME = new RegExp(CHANNEL_NAME_PATTERN);

/** Checks before the body is read: the token first, then that the channel is there, then the right. */
export function guardRoutes(app: FastifyInstance, parts: AccessParts): void {
  const { verifier, permissions, channels } = parts;
  app.decorateRequest('identity', null);
  app.decorateRequest('channel', null);
  app.addHook('onRequest', async (request) => {
    const access = accessOf(request);
    if (access === 'public') return;
    const token = bearerToken(request.headers);
    const verified = token === undefined ? null : await verifier.verify(token);
    const identity = verified ?? (await withoutToken(request, access, parts));
    request.identity = identity;
    if (access === 'token') return;
    if (access === 'server-admin') {
      permissions.requireServerAdmin(identity);
      return;
    }
    const name = channelName(request);
    await channels.settled(name);
    const channel = channelNamed(name, channels);
    permissions.require(identity, access.channel, channel.config);
    request.channel = channel;
  });
  // The body may have taken long: in the meantime the channel may have gone, or come anew with other lists.
  app.addHook('preHandler', async (request) => {
    const access = accessOf(request);
    if (request.channel === null || typeof access === 'string') return;
    const channel = channelNamed(request.channel.name, channels);
    if (channel === request.channel) return;
    permissions.require(callerOf(request), access.channel, channel.config);
    request.channel = channel;
  });
}

/**
 * The identity of a request without a token of a user: anonymous, where it wants to read or write in a channel that
 * does not require one. Throws TokenRefusal for anything else.
 */
async function withoutToken(
  request: FastifyRequest,
  access: Access,
  { channels, trustedProxies, ids }: AccessParts,
): Promise<Identity> {
  const name = channelNameOf(request);
  if (typeof access === 'string' || access.channel === 'admin' || name === undefined) throw missingToken();
  await channels.settled(name);
  if (channels.find(name)?.config.require_auth !== false) throw missingToken();
  return anonymousIdentity(`req_${ids.random(16)}`, clientAddress(request.raw, trustedProxies));
}

/** Who is asking; only on routes that are not public. */
export function callerOf(request: FastifyRequest): Identity {
  if (request.identity === null) throw new Error('a public route asked who is calling');
  return request.identity;
}

/** Who is asking, where that must be somebody: a user of one request alone cannot be listed or own anything. */
export function userOf(request: FastifyRequest): Identity {
  const identity = callerOf(request);
  if (identity.isAnonymous === true) throw missingToken();
  return identity;
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

/** The channel, or CHANNEL_NOT_FOUND with how it comes to be: HTTP requests make none. */
function channelNamed(name: string, channels: ChannelRegistry): Channel {
  const channel = channels.find(name);
  if (channel !== undefined) return channel;
  const error = `channel ${name} not found`;
  const how = channels.isMadeByJoining(name) ? 'join it or create it' : 'create it';
  throw new ProtocolError('CHANNEL_NOT_FOUND', {
    error,
    details: `${error}: ${how} with POST /realtime/channels`,
  });
}

function channelName(request: FastifyRequest): string {
  const name = channelNameOf(request);
  if (name === undefined) throw invalid('name', 'is not a channel name');
  return name;
}

/** The name of the channel in the path; undefined where there is none, or it is not a channel name. */
export function channelNameOf(request: FastifyRequest): string | undefined {
  const { name } = (request.params ?? {}) as { name?: string };
  return name !== undefined && CHANNEL_NAME.test(name) ? name : undefined;
}
