import type { Broadcaster } from '../../channels/broadcaster.js';
import { requireRate } from '../../channels/rate-limit.js';
import type { Clock } from '../../lib/clock.js';
import { EMPTY_OBJECT } from '../../lib/json-text.js';
import type { KeyedRateLimiter } from '../../lib/token-bucket.js';
import { presencePatch } from '../../presence/presence-patch.js';
import type { PresenceTracker } from '../../presence/presence-tracker.js';
import { callerOf, channelOf, userOf } from '../access.js';
import { bodyText } from '../json-body.js';
import { type App, route } from '../route.js';
import { Broadcasted, ChannelParams, ChannelPresence, Done, NewMessage, NewPresence } from '../schemas.js';

export interface MessageRouteParts {
  readonly broadcaster: Broadcaster;
  readonly presence: PresenceTracker;
  /** Limits messages per user, of WebSocket and HTTP together. */
  readonly messageRate: KeyedRateLimiter;
  readonly clock: Clock;
}

/** Publishing to a channel, and its presence list. */
export function messageRoutes(app: App, parts: MessageRouteParts): void {
  broadcastMessage(app, parts);
  showPresence(app, parts);
  updatePresence(app, parts);
}

function broadcastMessage(app: App, parts: MessageRouteParts): void {
  const { broadcaster, presence, messageRate, clock } = parts;
  const facts = {
    access: { channel: 'write' },
    tag: 'Messages',
    summary: 'Broadcast a message to a channel',
    description: 'All members receive it with the given `type` (`message` if it is missing).',
  } as const;
  app.post(
    '/realtime/channels/:name/broadcast',
    route(facts, { params: ChannelParams, body: NewMessage }, { 200: Broadcasted }),
    async (request) => {
      const channel = channelOf(request);
      const identity = callerOf(request);
      const { type = 'message', event } = request.body;
      const payload = bodyText(request, 'payload') ?? EMPTY_OBJECT;
      requireRate(messageRate, identity.limitedAs, clock());
      presence.flushPending(channel);
      const id = broadcaster.publish(channel, identity, { type, event, payload, bytes: request.bodyBytes });
      presence.seen(channel, identity.userId);
      return { message: 'message broadcasted successfully', id };
    },
  );
}

function showPresence(app: App, { presence }: MessageRouteParts): void {
  const facts = {
    access: { channel: 'read' },
    tag: 'Presence',
    summary: 'Show the presence list of a channel',
  } as const;
  app.get(
    '/realtime/channels/:name/presence',
    route(facts, { params: ChannelParams }, { 200: ChannelPresence }),
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
}

function updatePresence(app: App, parts: MessageRouteParts): void {
  const { broadcaster, presence, messageRate, clock } = parts;
  const facts = {
    access: { channel: 'write' },
    tag: 'Presence',
    summary: 'Update your presence in a channel',
    description:
      'Always needs the token of a user. The state is merged key by key; `null` removes a key. A user without a connection stays listed for REALTIME_CONNECTION_TIMEOUT after the last call.',
  } as const;
  app.post(
    '/realtime/channels/:name/presence',
    route(facts, { params: ChannelParams, body: NewPresence }, { 200: Done }),
    async (request) => {
      const channel = channelOf(request);
      const identity = userOf(request);
      requireRate(messageRate, identity.limitedAs, clock());
      broadcaster.admit(channel, identity, request.bodyBytes);
      presence.update(channel, identity.userId, presencePatch(bodyText(request, 'state')));
      return { message: 'presence updated successfully' };
    },
  );
}
