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

/**
 * The access that a route needs: none, a token, a server admin's token, or a permission in the channel of its
 * path.
 */
export type Access = 'public' | 'token' | 'server-admin' | { readonly channel: Permission };

declare module 'fastify' {
  interface FastifyContextConfig {
    access?: Access;
  }
  interface FastifyRequest {
    /** Set on all routes that are not public. */
    identity: Identity | null;
    /** Set on routes that need a permission in a channel. */
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

/** Checks each request before its body is read: first the token, then the channel, then the permission. */
export function guardRoutes(app: FastifyInstance, parts: AccessParts): void {
  const { verifier, permissions, channels } = parts;
  app.decorateRequest('identity', null);
  app.decorateRequest('channel', null);
  app.addHook('onRequest', async (request) => {
    const access = accessOf(request);
    if (access === 'public') return;
    const token = bearerToken(request.headers);
    const verified = token === undefined ? null : await verifier.verify(token);
    const identity = verified ?? (await anonymousCaller(request, access, parts));
    request.identity = identity;
    if (access === 'token') return;
    if (access === 'server-admin') {
      permissions.requireServerAdmin(identity);
      return;
    }
    const name = requireChannelName(request);
    await channels.settled(name);
    const channel = requireChannel(name, channels);
    permissions.require(identity, access.channel, channel.config);
    request.channel = channel;
  });
  // While the body was read, the channel can have been deleted, or recreated with other permissions.
  app.addHook('preHandler', async (request) => {
    const access = accessOf(request);
    if (request.channel === null || typeof access === 'string') return;
    const channel = requireChannel(request.channel.name, channels);
    if (channel === request.channel) return;
    permissions.require(callerOf(request), access.channel, channel.config);
    request.channel = channel;
  });
}

/**
 * Returns an anonymous identity for a request without a user's token, if it reads or writes in a channel that
 * does not require one. Throws TokenRefusal otherwise.
 */
async function anonymousCaller(
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

/** Returns the identity of the request; only on routes that are not public. */
export function callerOf(request: FastifyRequest): Identity {
  if (request.identity === null) throw new Error('a public route has no caller');
  return request.identity;
}

/**
 * Returns the identity of the request's user. Throws TokenRefusal for an anonymous one, which ends with the
 * request.
 */
export function userOf(request: FastifyRequest): Identity {
  const identity = callerOf(request);
  if (identity.isAnonymous === true) throw missingToken();
  return identity;
}

/** Returns the channel of the path; only on routes that need a permission in it. */
export function channelOf(request: FastifyRequest): Channel {
  if (request.channel === null) throw new Error('a route without a channel permission has no channel');
  return request.channel;
}

/** A route without `access` is only for server admins. */
function accessOf(request: FastifyRequest): Access {
  return request.is404 ? 'public' : (request.routeOptions.config.access ?? 'server-admin');
}

/** Returns the channel, or throws CHANNEL_NOT_FOUND that says how to create it: HTTP requests do not. */
function requireChannel(name: string, channels: ChannelRegistry): Channel {
  const channel = channels.find(name);
  if (channel !== undefined) return channel;
  const error = `channel ${name} not found`;
  const how = channels.isMadeByJoining(name) ? 'join it or create it' : 'create it';
  throw new ProtocolError('CHANNEL_NOT_FOUND', {
    error,
    details: `${error}: ${how} with POST /realtime/channels`,
  });
}

function requireChannelName(request: FastifyRequest): string {
  const name = channelNameOf(request);
  if (name === undefined) throw invalid('name', 'is not a channel name');
  return name;
}

/** Returns the channel name in the path, or undefined if there is no valid one. */
export function channelNameOf(request: FastifyRequest): string | undefined {
  const { name } = (request.params ?? {}) as { name?: string };
  return name !== undefined && CHANNEL_NAME.test(name) ? name : undefined;
}
