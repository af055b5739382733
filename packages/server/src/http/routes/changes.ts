import { ProtocolError } from '@goforward/realtime-protocol';
import type { Identity } from '../../auth/identity.js';
import type { ExplainRequest, Explanation } from '../../changes/explaining/explainer.js';
import type { SubscriptionReports } from '../../changes/explaining/subscription-reports.js';
import type { RoleTier } from '../../changes/explaining/tiers.js';
import { type ChangeFilter, FILTER_EVENTS } from '../../changes/model/change-filter.js';
import type { Viewers } from '../../changes/model/viewer.js';
import type { Subscription } from '../../changes/subscriptions/subscription.js';
import type {
  SubscribingUser,
  SubscriptionRegistry,
} from '../../changes/subscriptions/subscription-registry.js';
import type { TableRegistry } from '../../changes/tables/table-registry.js';
import type { ChannelRegistry } from '../../channels/channel-registry.js';
import type { Permissions } from '../../channels/permissions.js';
import { callerOf, channelOf } from '../access.js';
import { type App, route } from '../route.js';
import {
  ChannelParams,
  Done,
  Explained,
  ExplainQuestion,
  NewSubscription,
  NewTrigger,
  ReportedSubscription,
  Subscribed,
  SubscriptionList,
  SubscriptionParams,
  TableParams,
  TableQuery,
  TriggerList,
  TriggerRemoved,
  TriggerSetUp,
} from '../schemas.js';

/** What the routes of row changes work with. */
export interface RowChangeParts {
  readonly tables: TableRegistry;
  readonly subscriptions: SubscriptionRegistry;
  readonly reports: SubscriptionReports;
  readonly viewers: Viewers;
  /** How rows of a table are judged, for each role. */
  tiers(oid: number): Promise<readonly RoleTier[]>;
  explain(request: ExplainRequest): Promise<Explanation>;
  /** How changes are read. */
  readonly sourceKind: 'logical' | 'trigger';
}

export interface ChangeRouteParts {
  readonly channels: ChannelRegistry;
  readonly permissions: Permissions;
  /** Undefined where a setting turned row changes off: then every route answers FEATURE_DISABLED. */
  readonly rowChanges: RowChangeParts | undefined;
}

/** Setting tables up for row changes, and subscribing channels to them. */
export function changeRoutes(app: App, parts: ChangeRouteParts): void {
  triggerRoutes(app, parts);
  explainRoute(app, parts);
  subscriptionRoutes(app, parts);
}

function triggerRoutes(app: App, { rowChanges }: ChangeRouteParts): void {
  const setup = {
    access: 'server-admin',
    tag: 'Row changes',
    summary: 'Set a table up for row changes',
    description:
      'Publishes the table, gives it REPLICA IDENTITY FULL (unless told to keep what it has) and lets realtime_subscriber read it. Again changes nothing.',
  } as const;
  app.post(
    '/realtime/triggers/:table',
    route(setup, { params: TableParams, querystring: TableQuery, body: NewTrigger }, { 200: TriggerSetUp }),
    async (request) => {
      const { table } = request.params;
      const { schema = 'public' } = request.query;
      const { warnings } = await enabled(rowChanges).tables.enable(schema, table, request.body);
      return { message: 'trigger setup successfully', table, ...(warnings.length > 0 ? { warnings } : {}) };
    },
  );

  const removal = {
    access: 'server-admin',
    tag: 'Row changes',
    summary: 'Take a table out',
    description: 'Puts back what was found when it was set up. Subscriptions to it stay and send nothing.',
  } as const;
  app.delete(
    '/realtime/triggers/:table',
    route(removal, { params: TableParams, querystring: TableQuery }, { 200: TriggerRemoved }),
    async (request) => {
      const { table } = request.params;
      const { schema = 'public' } = request.query;
      await enabled(rowChanges).tables.disable(schema, table);
      return { message: 'trigger removed successfully', table };
    },
  );

  const listing = {
    access: 'server-admin',
    tag: 'Row changes',
    summary: 'List the tables that are set up',
  } as const;
  app.get('/realtime/triggers', route(listing, {}, { 200: TriggerList }), async () => {
    const changes = enabled(rowChanges);
    const { tables, subscriptions, sourceKind } = changes;
    const triggers = [];
    for (const { oid, schema, name, active, enabledAt } of tables.list())
      triggers.push({
        table: name,
        schema,
        source: sourceKind,
        active,
        subscriptions: subscriptions.byTable(oid).length,
        visibility: [...(await changes.tiers(oid))],
        created_at: enabledAt.toISOString(),
      });
    return { triggers, total: triggers.length };
  });
}

function explainRoute(app: App, { channels, rowChanges }: ChangeRouteParts): void {
  const explaining = {
    access: 'server-admin',
    tag: 'Row changes',
    summary: 'Tell why a user gets a row, or does not',
    description:
      'About a subscription, or a table and a condition, and a user by the claims of a token: for a row that is there (`key`: values by column), any other (`row`), or a change of the resume window (`at`: the cursor of its message). As rights and policies are now.',
  } as const;
  app.post(
    '/realtime/explain',
    route(explaining, { body: ExplainQuestion }, { 200: Explained }),
    async (request) => {
      const changes = enabled(rowChanges);
      const { subscription_id: id, ...asked } = request.body;
      const report = id === undefined ? undefined : changes.reports.report(id);
      const explanation = await changes.explain({
        schema: 'public',
        ...asked,
        ...report?.subscription.filter,
      });
      if (report === undefined) return explanation;
      const { user_id: userId } = explanation;
      const channel = channels.find(report.subscription.channelName);
      const isOwners = report.owner?.userId === userId;
      const listening =
        report.owner === undefined ? channel?.audience.connectionsOf(userId) : Number(isOwners);
      return { ...explanation, listening: listening ?? 0 };
    },
  );
}

function subscriptionRoutes(app: App, parts: ChangeRouteParts): void {
  const { channels, permissions, rowChanges } = parts;
  const subscribing = {
    access: { channel: 'admin' },
    tag: 'Row changes',
    summary: 'Subscribe a channel to the changes of a table',
    description:
      'Its members get the changes of rows that they may see. The same filter again is the same subscription. By a server admin it sets the table up.',
  } as const;
  app.post(
    '/realtime/channels/:name/subscribe',
    route(subscribing, { params: ChannelParams, body: NewSubscription }, { 200: Subscribed }),
    async (request) => {
      const { viewers } = enabled(rowChanges);
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
        isServerAdmin: permissions.isServerAdmin(identity),
      });
    },
  );

  const listing = {
    access: 'token',
    tag: 'Row changes',
    summary: 'List your subscriptions',
    description: 'A server admin sees those of everybody.',
  } as const;
  app.get('/realtime/subscriptions', route(listing, {}, { 200: SubscriptionList }), async (request) => {
    const identity: Identity = callerOf(request);
    const isAdmin = permissions.isServerAdmin(identity);
    const own = enabled(rowChanges)
      .subscriptions.list()
      .filter(({ userId }) => isAdmin || userId === identity.userId);
    return {
      subscriptions: own.map((subscription) => listedFor(identity, subscription, parts)),
      total: own.length,
    };
  });

  const telling = {
    access: 'server-admin',
    tag: 'Row changes',
    summary: 'Tell what became of the changes of a subscription',
    description:
      "Of a channel, or of a connection's own. The counts are those of this node since it knows the subscription. For server admins alone: what policies held back is nobody else's business.",
  } as const;
  app.get(
    '/realtime/subscriptions/:id',
    route(telling, { params: SubscriptionParams }, { 200: ReportedSubscription }),
    async (request) => {
      const { subscription, owner, counts } = enabled(rowChanges).reports.report(request.params.id);
      const { since, ...numbers } = counts;
      return {
        ...described(subscription),
        ...(owner === undefined ? {} : { connection_id: owner.id, message_count: counts.delivered }),
        counts: { ...numbers, since: since.toISOString() },
      };
    },
  );

  const ending = {
    access: 'token',
    tag: 'Row changes',
    summary: 'End a subscription',
    description: 'Needs the right `admin` in its channel.',
  } as const;
  app.delete(
    '/realtime/subscriptions/:id',
    route(ending, { params: SubscriptionParams }, { 200: Done }),
    async (request) => {
      const { subscriptions } = enabled(rowChanges);
      const { id, channelName } = subscriptions.get(request.params.id);
      permissions.require(callerOf(request), 'admin', channels.get(channelName).config);
      await subscriptions.remove(id);
      return { message: 'subscription removed successfully' };
    },
  );
}

/** A subscription as lists show it to this caller. */
export function listedFor(
  identity: Identity,
  subscription: Subscription,
  { channels, permissions }: ChangeRouteParts,
) {
  const channel = channels.find(subscription.channelName);
  const removable = channel !== undefined && permissions.allows(identity, 'admin', channel.config);
  return { ...described(subscription), removable };
}

function described(subscription: Subscription) {
  return {
    id: subscription.id,
    channel_name: subscription.channelName,
    filter: subscription.filter,
    user_id: subscription.userId,
    created_at: subscription.createdAt.toISOString(),
    last_activity: subscription.lastActivity?.toISOString() ?? null,
    message_count: subscription.messageCount,
    active: subscription.active,
  };
}

/** Subscribes a channel, which stays from now on; the answer is that of `POST …/subscribe`. */
export async function subscribeChannel(
  { channels, rowChanges }: Pick<ChangeRouteParts, 'channels' | 'rowChanges'>,
  name: string,
  filter: ChangeFilter,
  subscriber: SubscribingUser,
) {
  const { subscriptions } = enabled(rowChanges);
  const { subscription, warnings } = await subscriptions.subscribe(name, filter, subscriber);
  try {
    await channels.makePermanent(name);
  } catch (error) {
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

function enabled(rowChanges: RowChangeParts | undefined): RowChangeParts {
  if (rowChanges === undefined)
    throw new ProtocolError('FEATURE_DISABLED', { fields: { feature: 'db_streaming' } });
  return rowChanges;
}
