import { CHANNEL_NAME_PATTERN, LIMITS } from '@goforward/realtime-protocol';
import { ErrorBody, PresenceMap } from '@goforward/realtime-protocol/schemas';
import { type Static, Type } from 'typebox';
import type { JsonText } from '../lib/json-text.js';

/** Requests and responses of the HTTP API, without row changes; `/openapi.json` is generated from them. */

const MAX_SUBSCRIBERS = 1_000_000;
const CLOSED = { additionalProperties: false };

export const Failure = ErrorBody;
export const Done = Type.Object({ message: Type.String() });

export const ChannelParams = Type.Object({ name: Type.String({ description: 'Name of the channel.' }) });

const roles = (description: string) =>
  Type.Optional(Type.Array(Type.String({ minLength: 1, maxLength: 100 }), { maxItems: 100, description }));

const ChannelPermissions = Type.Object(
  {
    read: roles('Roles that may join and read. Missing: every role.'),
    write: roles('Roles that may publish and update their presence. Missing: every role.'),
    admin: roles('Roles that may subscribe the channel to tables and delete it. Missing: server admins.'),
    max_message_size: Type.Optional(
      Type.Integer({ minimum: 1, description: 'Largest message that is accepted, in bytes.' }),
    ),
    rate_limit: Type.Optional(
      Type.Number({
        exclusiveMinimum: 0,
        maximum: 1_000_000,
        description: 'Messages that one user may send, per second.',
      }),
    ),
  },
  CLOSED,
);

const channelFields = {
  max_subscribers: Type.Integer({
    minimum: 1,
    maximum: MAX_SUBSCRIBERS,
    description: 'Maximum number of connections in the channel.',
  }),
  require_auth: Type.Boolean({
    description: 'Whether the channel needs a token. If false, clients without one have the role anonymous.',
  }),
  permissions: ChannelPermissions,
  metadata: Type.Record(Type.String(), Type.Unknown(), {
    description: 'Data of the application. The server stores it and does not read it.',
  }),
};

const SubscriberCount = Type.Integer({ description: 'Number of connections in the channel.' });
const PresenceCount = Type.Integer({ description: 'Number of users in the presence list.' });

export const NewChannel = Type.Object(
  {
    name: Type.String({
      pattern: CHANNEL_NAME_PATTERN,
      description: `1 to ${LIMITS.channelNameLength} letters, digits and _ - . : without a dot at the start.`,
    }),
    max_subscribers: Type.Optional(channelFields.max_subscribers),
    require_auth: Type.Optional(channelFields.require_auth),
    permissions: Type.Optional(channelFields.permissions),
    metadata: Type.Optional(channelFields.metadata),
  },
  CLOSED,
);

export const CreatedChannel = Type.Object({
  name: Type.String(),
  subscriber_count: SubscriberCount,
  config: Type.Object({ ...channelFields, metadata: Type.Unsafe<JsonText>(channelFields.metadata) }),
});

export const ChannelInfo = Type.Object({
  name: Type.String(),
  subscriber_count: SubscriberCount,
  presence: PresenceMap,
});

const ChannelSummary = Type.Object({
  name: Type.String(),
  subscriber_count: SubscriberCount,
  presence_count: PresenceCount,
});
export type ChannelSummary = Static<typeof ChannelSummary>;

export const ChannelList = Type.Object({ channels: Type.Array(ChannelSummary), total: Type.Integer() });

export const ChannelStats = Type.Object({
  channel: Type.String(),
  subscriber_count: SubscriberCount,
  presence_count: PresenceCount,
  connected_users: Type.Integer({ description: 'Number of different users with a connection.' }),
  users: Type.Array(Type.String(), { description: 'Ids of these users.' }),
});

export const ChannelPresence = Type.Object({
  channel: Type.String(),
  presence: PresenceMap,
  connected_users: Type.Array(Type.String(), { description: 'Ids of the users with a connection.' }),
  total_users: Type.Integer({ description: 'Number of users with a connection.' }),
});

export const NewMessage = Type.Object(
  {
    type: Type.Optional(Type.Union([Type.Literal('message'), Type.Literal('broadcast')])),
    event: Type.String({ minLength: 1, maxLength: LIMITS.eventLength }),
    payload: Type.Optional(Type.Unknown()),
  },
  CLOSED,
);

export const NewPresence = Type.Object({ state: Type.Record(Type.String(), Type.Unknown()) }, CLOSED);

export const Broadcasted = Type.Object({
  message: Type.String(),
  id: Type.String({ description: 'Id of the message that the members receive.' }),
});

const Counts = Type.Record(Type.String(), Type.Integer());

const DatabaseStats = Type.Object({
  source: Type.String({ description: 'Change source: logical (the WAL) or trigger (an outbox table).' }),
  status: Type.String({
    description: 'State of the change stream: connecting, streaming, follower, down, refused or stopped.',
  }),
  tables: Type.Integer({ description: 'Number of enabled tables.' }),
  subscriptions: Type.Integer({ description: 'Number of subscriptions of channels.' }),
  lag_bytes: Type.Integer({
    description: 'Bytes of WAL between its end and the position that all members have reached.',
  }),
  lag_seconds: Type.Number({
    description: 'Seconds that the last heartbeat took from PostgreSQL to the server.',
  }),
  retained_bytes: Type.Integer({
    description: 'Bytes of WAL that PostgreSQL retains for the replication slot.',
  }),
  xmin_age: Type.Integer({
    description: 'Transactions by which the replication slot holds back vacuum of the catalog.',
  }),
  window_bytes: Type.Integer({ description: 'Bytes of row changes kept for returning clients.' }),
  changes_read: Type.Integer({ description: 'Row changes read from PostgreSQL.' }),
  changes_judged: Type.Integer({
    description: 'Row versions whose policies were evaluated, once per version and database role.',
  }),
  changes_delivered: Type.Integer({ description: 'Row changes delivered, once per change and member.' }),
  changes_refused: Type.Integer({
    description: 'Row changes that privileges or policies hid from all members of a database role.',
  }),
  errors: Type.Integer({
    description: 'Policies and conditions that raised an error or took too long, and failed routing.',
  }),
});
export type DatabaseStats = Static<typeof DatabaseStats>;

export const SystemStats = Type.Object({
  total_channels: Type.Integer(),
  total_subscribers: Type.Integer({ description: 'Sum of the subscriber counts of all channels.' }),
  total_presence: Type.Integer({ description: 'Sum of the presence counts of all channels.' }),
  channels: Type.Array(ChannelSummary),
  connections: Type.Object({
    active_connections: Type.Integer(),
    connections_per_user: Counts,
    channel_connections: Counts,
  }),
  database: Type.Optional(DatabaseStats),
});
