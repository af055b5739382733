import type { Broadcaster } from '../../channels/broadcaster.js';
import { requireRate } from '../../channels/rate-limit.js';
import type { Clock } from '../../lib/clock.js';
import type { KeyedRateLimiter } from '../../lib/token-bucket.js';
import type { PresenceTracker } from '../../presence/presence-tracker.js';
import { callerOf, channelOf, userOf } from '../access.js';
import { type App, route } from '../route.js';
import { Broadcasted, ChannelParams, ChannelPresence, Done, NewMessage, NewPresence } from '../schemas.js';

export interface MessageRouteParts {
  readonly broadcaster: Broadcaster;
  readonly presence: PresenceTracker;
  /** Messages per user, over WebSocket and HTTP together. */
  readonly messageRate: KeyedRateLimiter;
  readonly clock: Clock;
}

/** Publishing to a channel, and presence in it. */
export function messageRoutes(
  app: App,
  { broadcaster, presence, messageRate, clock }: MessageRouteParts,
): void {
  const broadcast = {
    access: { channel: 'write' },
    tag: 'Messages',
    summary: 'Broadcast a message to a channel',
    description: 'All members get it with the type that it is posted with (`message` when it names none).',
  } as const;
  app.post(
    '/realtime/channels/:name/broadcast',
    route(broadcast, { params: ChannelParams, body: NewMessage }, { 200: Broadcasted }),
    async (request) => {
      const channel = channelOf(request);
      const identity = callerOf(request);
      const { type = 'message', event, payload } = request.body;
      requireRate(messageRate, identity.limitedAs, clock());
      presence.flushPending(channel);
      const id = broadcaster.publish(channel, identity, { type, event, payload, bytes: request.bodyBytes });
      presence.seen(channel, identity.userId);
      return { message: 'message broadcasted successfully', id };
    },
  );

  const listing = { access: { channel: 'read' }, tag: 'Presence', summary: 'Who is in a channel' } as const;
  app.get(
    '/realtime/channels/:name/presence',
    route(listing, { params: ChannelParams }, { 200: ChannelPresence }),
    async (request) => {
      const channel = channelOf(request);
      const { users } = channel.audience;
      return {
        channel: channel.name,
        presence: presence.snapshot(channel),
        connected_users: users,
        total_users: users.length,
      };
    },
  );

  const update = {
    access: { channel: 'write' },
    tag: 'Presence',
    summary: 'Update your presence in a channel',
    description:
      'Needs a token also where the channel does not require one. The state is merged key by key; `null` removes a key. A user without a connection stays listed for the connection timeout, renewed by each call.',
  } as const;
  app.post(
    '/realtime/channels/:name/presence',
    route(update, { params: ChannelParams, body: NewPresence }, { 200: Done }),
    async (request) => {
      const channel = channelOf(request);
      const identity = userOf(request);
      requireRate(messageRate, identity.limitedAs, clock());
      broadcaster.admit(channel, identity, request.bodyBytes);
      presence.update(channel, identity.userId, request.body.state);
      return { message: 'presence updated successfully' };
    },
  );
}
