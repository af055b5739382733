import type { Channel } from '../../channels/channel.js';
import type { ChannelRegistry } from '../../channels/channel-registry.js';
import type { Permissions } from '../../channels/permissions.js';
import { EMPTY_OBJECT } from '../../lib/json-text.js';
import type { PresenceTracker } from '../../presence/presence-tracker.js';
import { callerOf, channelOf } from '../access.js';
import { bodyText } from '../json-body.js';
import { type App, route } from '../route.js';
import {
  ChannelInfo,
  ChannelList,
  ChannelParams,
  ChannelStats,
  type ChannelSummary,
  CreatedChannel,
  Done,
  NewChannel,
} from '../schemas.js';

export interface ChannelRouteParts {
  readonly channels: ChannelRegistry;
  readonly permissions: Permissions;
  readonly presence: PresenceTracker;
}

/** Creating, listing, showing and deleting channels. */
export function channelRoutes(app: App, parts: ChannelRouteParts): void {
  createChannel(app, parts);
  listChannels(app, parts);
  showChannel(app, parts);
  deleteChannel(app, parts);
  showStatistics(app, parts);
}

function createChannel(app: App, { channels }: ChannelRouteParts): void {
  const facts = {
    access: 'server-admin',
    tag: 'Channels',
    summary: 'Create a channel',
    needsPostgres: true,
  } as const;
  app.post(
    '/realtime/channels',
    route(facts, { body: NewChannel }, { 201: CreatedChannel }),
    async (request, reply) => {
      const { name, metadata: _, ...given } = request.body;
      const metadata = bodyText(request, 'metadata')?.copy() ?? EMPTY_OBJECT;
      const channel = await channels.create(name, { ...given, metadata });
      return reply.code(201).send({ name, subscriber_count: channel.audience.size, config: channel.config });
    },
  );
}

function listChannels(app: App, { channels, permissions, presence }: ChannelRouteParts): void {
  const facts = { access: 'token', tag: 'Channels', summary: 'List the channels you may read' } as const;
  app.get('/realtime/channels', route(facts, {}, { 200: ChannelList }), async (request) => {
    const identity = callerOf(request);
    const readable = channels
      .list()
      .filter((channel) => permissions.allows(identity, 'read', channel.config));
    return { channels: readable.map((channel) => summaryOf(channel, presence)), total: readable.length };
  });
}

function showChannel(app: App, { presence }: ChannelRouteParts): void {
  const facts = { access: { channel: 'read' }, tag: 'Channels', summary: 'Show a channel' } as const;
  app.get(
    '/realtime/channels/:name',
    route(facts, { params: ChannelParams }, { 200: ChannelInfo }),
    async (request) => {
      const channel = channelOf(request);
      return {
        name: channel.name,
        subscriber_count: channel.audience.size,
        presence: presence.snapshot(channel),
      };
    },
  );
}

function deleteChannel(app: App, { channels }: ChannelRouteParts): void {
  const facts = {
    access: { channel: 'admin' },
    tag: 'Channels',
    summary: 'Delete a channel',
    needsPostgres: true,
    description:
      'Notifies and disconnects its members. Joining does not recreate a deleted channel; only this API does.',
  } as const;
  app.delete(
    '/realtime/channels/:name',
    route(facts, { params: ChannelParams }, { 200: Done }),
    async (request) => {
      await channels.delete(channelOf(request).name);
      return { message: 'channel deleted successfully' };
    },
  );
}

function showStatistics(app: App, { presence }: ChannelRouteParts): void {
  const facts = {
    access: { channel: 'read' },
    tag: 'Monitoring',
    summary: 'Show the statistics of a channel',
  } as const;
  app.get(
    '/realtime/channels/:name/stats',
    route(facts, { params: ChannelParams }, { 200: ChannelStats }),
    async (request) => {
      const channel = channelOf(request);
      const { users } = channel.audience;
      return {
        channel: channel.name,
        subscriber_count: channel.audience.size,
        presence_count: presence.count(channel),
        connected_users: users.length,
        users,
      };
    },
  );
}

/** A channel as lists and statistics show it. */
export function summaryOf(channel: Channel, presence: PresenceTracker): ChannelSummary {
  return {
    name: channel.name,
    subscriber_count: channel.audience.size,
    presence_count: presence.count(channel),
  };
}
