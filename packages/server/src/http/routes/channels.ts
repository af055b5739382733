import type { Channel } from '../../channels/channel.js';
import type { ChannelRegistry } from '../../channels/channel-registry.js';
import type { Permissions } from '../../channels/permissions.js';
import type { PresenceTracker } from '../../presence/presence-tracker.js';
import { callerOf, channelOf } from '../access.js';
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

/** Making, listing, showing and deleting channels. */
export function channelRoutes(app: App, { channels, permissions, presence }: ChannelRouteParts): void {
  const creation = { access: 'server-admin', tag: 'Channels', summary: 'Create a channel' } as const;
  app.post(
    '/realtime/channels',
    route(creation, { body: NewChannel }, { 201: CreatedChannel }),
    async (request, reply) => {
      const { name, ...given } = request.body;
      const channel = await channels.create(name, given);
      return reply.code(201).send({ name, subscriber_count: channel.audience.size, config: channel.config });
    },
  );

  const listing = {
    access: 'token',
    tag: 'Channels',
    summary: 'List the channels that you may read',
  } as const;
  app.get('/realtime/channels', route(listing, {}, { 200: ChannelList }), async (request) => {
    const identity = callerOf(request);
    const readable = channels
      .list()
      .filter((channel) => permissions.allows(identity, 'read', channel.config));
    return { channels: readable.map((channel) => summaryOf(channel, presence)), total: readable.length };
  });

  const showing = { access: { channel: 'read' }, tag: 'Channels', summary: 'Show a channel' } as const;
  app.get(
    '/realtime/channels/:name',
    route(showing, { params: ChannelParams }, { 200: ChannelInfo }),
    async (request) => {
      const channel = channelOf(request);
      return {
        name: channel.name,
        subscriber_count: channel.audience.size,
        presence: presence.snapshot(channel),
      };
    },
  );

  const deletion = {
    access: { channel: 'admin' },
    tag: 'Channels',
    summary: 'Delete a channel',
    description: 'Its members are told and cut off. Joining does not bring it back; only creating it does.',
  } as const;
  app.delete(
    '/realtime/channels/:name',
    route(deletion, { params: ChannelParams }, { 200: Done }),
    async (request) => {
      await channels.delete(channelOf(request).name);
      return { message: 'channel deleted successfully' };
    },
  );

  const statistics = {
    access: { channel: 'read' },
    tag: 'Monitoring',
    summary: 'Statistics of a channel',
  } as const;
  app.get(
    '/realtime/channels/:name/stats',
    route(statistics, { params: ChannelParams }, { 200: ChannelStats }),
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

/** A channel's line in lists and statistics. */
export function summaryOf(channel: Channel, presence: PresenceTracker): ChannelSummary {
  return {
    name: channel.name,
    subscriber_count: channel.audience.size,
    presence_count: presence.count(channel),
  };
}
