import { CHANNEL_NAME_PATTERN, LIMITS } from '@goforward/realtime-protocol';
import { ErrorBody, PresenceMap } from '@goforward/realtime-protocol/schemas';
import { type Static, Type } from 'typebox';

/** The bodies and answers of the HTTP API, shared by its routes; OpenAPI shows them. */

const MAX_SUBSCRIBERS = 1_000_000;
const CLOSED = { additionalProperties: false };

const Roles = Type.Array(Type.String({ minLength: 1, maxLength: 100 }), { maxItems: 100 });

const ChannelPermissions = Type.Object(
  {
    read: Type.Optional(Roles),
    write: Type.Optional(Roles),
    admin: Type.Optional(Roles),
    max_message_size: Type.Optional(Type.Integer({ minimum: 1, description: 'bytes of one message' })),
    rate_limit: Type.Optional(
      Type.Number({ exclusiveMinimum: 0, maximum: 1_000_000, description: 'messages per second and user' }),
    ),
  },
  CLOSED,
);

const channelFields = {
  max_subscribers: Type.Integer({ minimum: 1, maximum: MAX_SUBSCRIBERS }),
  require_auth: Type.Boolean(),
  permissions: ChannelPermissions,
  metadata: Type.Record(Type.String(), Type.Unknown()),
};

export const NewChannel = Type.Object(
  {
    name: Type.String({
      pattern: CHANNEL_NAME_PATTERN,
      description: `1 to ${LIMITS.channelNameLength} letters, digits and _ - . : not starting with a dot`,
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
  subscriber_count: Type.Integer(),
  config: Type.Object(channelFields),
});

export const ChannelInfo = Type.Object({
  name: Type.String(),
  subscriber_count: Type.Integer(),
  presence: PresenceMap,
});

const ChannelSummary = Type.Object({
  name: Type.String(),
  subscriber_count: Type.Integer(),
  presence_count: Type.Integer(),
});
export type ChannelSummary = Static<typeof ChannelSummary>;

export const ChannelList = Type.Object({ channels: Type.Array(ChannelSummary), total: Type.Integer() });

export const ChannelStats = Type.Object({
  channel: Type.String(),
  subscriber_count: Type.Integer(),
  presence_count: Type.Integer(),
  connected_users: Type.Integer(),
  users: Type.Array(Type.String()),
});

export const ChannelPresence = Type.Object({
  channel: Type.String(),
  presence: PresenceMap,
  connected_users: Type.Array(Type.String()),
  total_users: Type.Integer(),
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

export const Done = Type.Object({ message: Type.String() });

export const Broadcasted = Type.Object({ message: Type.String(), id: Type.String() });

const Name = Type.String({ minLength: 1, maxLength: 63 });
const FilterEvents = Type.Array(
  Type.Union([Type.Literal('INSERT'), Type.Literal('UPDATE'), Type.Literal('DELETE')]),
  { minItems: 1, maxItems: 3 },
);
const filterFields = {
  table: Name,
  schema: Type.Optional(Name),
  events: Type.Optional(FilterEvents),
  columns: Type.Optional(Type.Array(Name, { minItems: 1, maxItems: 1600, description: 'missing: all' })),
  condition: Type.Optional(
    Type.String({ minLength: 1, maxLength: 4096, description: 'a boolean SQL expression over the row' }),
  ),
};

export const NewSubscription = Type.Object(filterFields, CLOSED);

const Filter = Type.Object({ ...filterFields, schema: Name, events: FilterEvents });

const AnyValues = Type.Record(Type.String(), Type.Unknown());

export const ExplainQuestion = Type.Object(
  {
    subscription_id: Type.Optional(
      Type.String({ description: 'a subscription of a channel, whose table and condition are asked about' }),
    ),
    table: Type.Optional(Name),
    schema: Type.Optional(Name),
    condition: Type.Optional(Type.String()),
    user: AnyValues,
    key: Type.Optional(AnyValues),
    row: Type.Optional(AnyValues),
    at: Type.Optional(Type.String({ description: 'the cursor of a change' })),
  },
  CLOSED,
);

const PostgresError = Type.Object(
  { sqlstate: Type.String(), message: Type.String() },
  { description: 'what PostgreSQL says' },
);

const explainedVersion = {
  visible: Type.Boolean({ description: 'whether the user gets it, where somebody listens' }),
  reasons: Type.Array(Type.String()),
  policies: Type.Array(
    Type.Object({
      name: Type.String(),
      permissive: Type.Boolean(),
      expression: Type.String(),
      result: Type.String({ description: 'true, false, null or error' }),
      error: Type.Optional(PostgresError),
    }),
  ),
  condition: Type.Optional(
    Type.Object({ text: Type.String(), holds: Type.Boolean(), error: Type.Optional(PostgresError) }),
  ),
};

export const Explained = Type.Object({
  ...explainedVersion,
  user_id: Type.String(),
  role: Type.String(),
  tier: Type.String(),
  tier_reason: Type.String(),
  columns_left_out: Type.Array(Type.String()),
  change: Type.Optional(
    Type.Object(
      {
        event: Type.String(),
        gets: Type.String({
          description:
            'the event; gained or lost, where an UPDATE moves the row into view or out of it; or nothing',
        }),
        old_version: Type.Optional(Type.Object(explainedVersion)),
      },
      { description: 'of a change, which the answer is about: of its new version, of a DELETE the old one' },
    ),
  ),
  listening: Type.Optional(
    Type.Integer({ description: "connections of the user in the subscription's channel" }),
  ),
});

export const Subscribed = Type.Object({
  message: Type.String(),
  channel: Type.String(),
  filter: Filter,
  subscription_id: Type.String(),
  warnings: Type.Optional(Type.Array(Type.String())),
});

const KnownSubscription = Type.Object({
  id: Type.String(),
  channel_name: Type.String(),
  filter: Filter,
  user_id: Type.String(),
  created_at: Type.String(),
  last_activity: Type.Union([Type.String(), Type.Null()]),
  message_count: Type.Integer({ description: 'changes that were sent to at least one member' }),
  active: Type.Boolean({ description: 'false while its table is not set up' }),
});

export const SubscriptionList = Type.Object({
  subscriptions: Type.Array(
    Type.Object({
      ...KnownSubscription.properties,
      removable: Type.Boolean({
        description: 'whether you may end it, which needs admin permission on its channel',
      }),
    }),
  ),
  total: Type.Integer(),
});

const changes = (description: string) => Type.Integer({ description });

export const ReportedSubscription = Type.Object({
  ...KnownSubscription.properties,
  connection_id: Type.Optional(Type.String({ description: 'the connection whose own it is' })),
  counts: Type.Object(
    {
      since: Type.String(),
      delivered: changes('sent to at least one member'),
      condition: changes('not wanted by its condition'),
      policy: changes('wanted, and shown to nobody by the policies'),
      privilege: changes('wanted, and nobody there has a database role that may read it'),
      error: changes('held back, since a policy or the condition raised an error'),
      unheard: changes('wanted, and nobody was there'),
    },
    {
      description:
        'changes of its table and events, while anybody listened to the table: each is one of these',
    },
  ),
});

export const SubscriptionParams = Type.Object({ id: Type.String() });

export const TableParams = Type.Object({ table: Name });
export const TableQuery = Type.Object({ schema: Type.Optional(Name) }, CLOSED);

export const NewTrigger = Type.Object(
  {
    identity: Type.Optional(
      Type.Literal('keep', { description: 'leaves the replica identity of the table as it is' }),
    ),
  },
  CLOSED,
);

export const TriggerSetUp = Type.Object({
  message: Type.String(),
  table: Type.String(),
  warnings: Type.Optional(Type.Array(Type.String())),
});

export const TriggerRemoved = Type.Object({ message: Type.String(), table: Type.String() });

export const TriggerList = Type.Object({
  triggers: Type.Array(
    Type.Object({
      table: Type.String(),
      schema: Type.String(),
      source: Type.String(),
      active: Type.Boolean({ description: 'false: the table is no more' }),
      subscriptions: Type.Integer(),
      visibility: Type.Array(
        Type.Object({
          role: Type.String({ description: 'a database role that rows are judged as' }),
          tier: Type.String({
            description:
              'INDEXED: rows are looked up; COMPILED: judged in process; POSTGRES: judged by PostgreSQL; OPEN: row level security does not apply; CLOSED: no row reaches the role',
          }),
          reason: Type.String(),
        }),
      ),
      created_at: Type.String(),
    }),
  ),
  total: Type.Integer(),
});

const Counts = Type.Record(Type.String(), Type.Integer());

const DatabaseStats = Type.Object({
  source: Type.String({ description: 'where row changes come from: logical' }),
  status: Type.String({ description: 'streaming, follower, connecting, down or refused' }),
  tables: Type.Integer(),
  subscriptions: Type.Integer(),
  lag_bytes: Type.Integer({ description: "WAL between PostgreSQL's end and what every member has" }),
  lag_seconds: Type.Number(),
  retained_bytes: Type.Integer({ description: 'WAL that PostgreSQL keeps for the replication slot' }),
  xmin_age: Type.Integer({ description: 'transactions that vacuum of the catalog is held back by' }),
  window_bytes: Type.Integer({ description: 'row changes that are kept for clients that come back' }),
  changes_read: Type.Integer(),
  changes_judged: Type.Integer(),
  changes_delivered: Type.Integer(),
  changes_refused: Type.Integer(),
  errors: Type.Integer(),
});
export type DatabaseStats = Static<typeof DatabaseStats>;

export const SystemStats = Type.Object({
  total_channels: Type.Integer(),
  total_subscribers: Type.Integer(),
  total_presence: Type.Integer(),
  channels: Type.Array(ChannelSummary),
  connections: Type.Object({
    active_connections: Type.Integer(),
    connections_per_user: Counts,
    channel_connections: Counts,
  }),
  database: Type.Optional(DatabaseStats),
});

export const Failure = ErrorBody;
export const ChannelParams = Type.Object({ name: Type.String() });
