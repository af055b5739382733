import type { Identity } from '../../auth/identity.js';
import type { Received } from '../../changes/delivery/received-counts.js';
import { type ChangeFilter, FILTER_EVENTS } from '../../changes/model/change-filter.js';
import type { Subscription } from '../../changes/subscriptions/subscription.js';
import type { SubscribingUser } from '../../changes/subscriptions/subscription-registry.js';
import { callerOf, channelOf } from '../access.js';
import { signalOf } from '../pending-requests.js';
import { type App, route } from '../route.js';
import {
  NewSubscription,
  Subscribed,
  SubscriptionList,
  SubscriptionParams,
  SubscriptionReport,
} from '../row-change-schemas.js';
import { ChannelParams, Done } from '../schemas.js';
import { type ChangeRouteParts, requireRowChanges } from './row-change-parts.js';

/** Creating, listing, showing and removing subscriptions of channels to tables. */
export function subscriptionRoutes(app: App, parts: ChangeRouteParts): void {
  createSubscription(app, parts);
  listSubscriptions(app, parts);
  showSubscription(app, parts);
  removeSubscription(app, parts);
}

function createSubscription(app: App, parts: ChangeRouteParts): void {
  const facts = {
    access: { channel: 'admin' },
    tag: 'Row changes',
    summary: 'Subscribe a channel to the changes of a table',
    needsPostgres: true,
    description:
      'Each member receives the changes of the rows it may see. Repeating a filter returns the existing subscription. If a server admin subscribes, the table is enabled when it is not yet.',
  } as const;
  app.post(
    '/realtime/channels/:name/subscribe',
    route(facts, { params: ChannelParams, body: NewSubscription }, { 200: Subscribed }),
    async (request) => {
      const { viewers } = requireRowChanges(parts.rowChanges);
      const identity = callerOf(request);
      const { table, schema = 'public', events = FILTER_EVENTS, columns, condition } = request.body;
      const filter = {
        table,
        schema,
        events: [...new Set(events)],
        ...(columns === undefined ? {} : { columns }),
        ...(condition === undefined ? {} : { condition }),
      };
      return subscribeChannel(parts, channelOf(request).name, filter, {
        userId: identity.userId,
        role: viewers.of(identity).role,
        isServerAdmin: parts.permissions.isServerAdmin(identity),
        user: identity.limitedAs,
        signal: signalOf(request),
      });
    },
  );
}

function listSubscriptions(app: App, parts: ChangeRouteParts): void {
  const facts = {
    access: 'token',
    tag: 'Row changes',
    summary: 'List your subscriptions',
    description:
      'A server admin sees the subscriptions of all users, with the counts of all members; anyone else their own, with what their own connections have received.',
  } as const;
  app.get('/realtime/subscriptions', route(facts, {}, { 200: SubscriptionList }), async (request) => {
    const identity = callerOf(request);
    const isAdmin = parts.permissions.isServerAdmin(identity);
    const listed = requireRowChanges(parts.rowChanges)
      .subscriptions.list()
      .filter(({ userId }) => isAdmin || userId === identity.userId);
    return {
      subscriptions: listed.map((subscription) => listedSubscription(identity, subscription, parts)),
      total: listed.length,
    };
  });
}

function showSubscription(app: App, { rowChanges }: ChangeRouteParts): void {
  const facts = {
    access: 'server-admin',
    tag: 'Row changes',
    summary: 'Show a subscription and the outcomes of its changes',
    description:
      'The subscription of a channel, or a personal one. The counts are those of this node. Only for server admins, because the counts reveal rows that policies hide.',
  } as const;
  app.get(
    '/realtime/subscriptions/:id',
    route(facts, { params: SubscriptionParams }, { 200: SubscriptionReport }),
    async (request) => {
      const { reports } = requireRowChanges(rowChanges);
      const { subscription, owner, counts } = reports.report(request.params.id);
      const { since, ...numbers } = counts;
      return {
        ...subscriptionInfo(subscription, subscription),
        ...(owner === undefined ? {} : { connection_id: owner.id, message_count: counts.delivered }),
        counts: { ...numbers, since: since.toISOString() },
      };
    },
  );
}

function removeSubscription(app: App, { channels, permissions, rowChanges }: ChangeRouteParts): void {
  const facts = {
    access: 'token',
    tag: 'Row changes',
    summary: 'Remove a subscription',
    needsPostgres: true,
    description: 'Needs `admin` permission in its channel.',
  } as const;
  app.delete(
    '/realtime/subscriptions/:id',
    route(facts, { params: SubscriptionParams }, { 200: Done }),
    async (request) => {
      const { subscriptions } = requireRowChanges(rowChanges);
      const { id, channelName } = subscriptions.get(request.params.id);
      permissions.require(callerOf(request), 'admin', channels.get(channelName).config);
      await subscriptions.remove(id);
      return { message: 'subscription removed successfully' };
    },
  );
}

/** Subscribes a channel, makes it permanent, and returns the response of `POST …/subscribe`. */
export async function subscribeChannel(
  { channels, rowChanges }: Pick<ChangeRouteParts, 'channels' | 'rowChanges'>,
  name: string,
  filter: ChangeFilter,
  subscriber: SubscribingUser,
) {
  const { subscriptions } = requireRowChanges(rowChanges);
  const { subscription, warnings } = await subscriptions.subscribe(name, filter, subscriber);
  try {
    await channels.makePermanent(name);
  } catch (error) {
    // The channel was deleted meanwhile: without it the subscription would remain for ever.
    if (channels.find(name) === undefined) await subscriptions.removeChannel(name);
    throw error;
  }
  return {
    message: 'subscribed to database changes',
    channel: name,
    filter,
    subscription_id: subscription.id,
    ...(warnings.length > 0 ? { warnings } : {}),
  };
}

/** A subscription as lists show it to this caller. */
export function listedSubscription(
  identity: Identity,
  subscription: Subscription,
  { channels, permissions, rowChanges }: ChangeRouteParts,
) {
  const channel = channels.find(subscription.channelName);
  const removable = channel !== undefined && permissions.allows(identity, 'admin', channel.config);
  // The counts of all members tell of rows that policies hide from this one.
  const counts = permissions.isServerAdmin(identity)
    ? subscription
    : requireRowChanges(rowChanges).received.of(identity.userId, subscription);
  return { ...subscriptionInfo(subscription, counts), removable };
}

function subscriptionInfo(subscription: Subscription, { messageCount, lastActivity }: Received) {
  return {
    id: subscription.id,
    channel_name: subscription.channelName,
    filter: subscription.filter,
    user_id: subscription.userId,
    created_at: subscription.createdAt.toISOString(),
    last_activity: lastActivity?.toISOString() ?? null,
    message_count: messageCount,
    active: subscription.active,
  };
}
