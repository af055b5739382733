import { Type } from 'typebox';

/** Requests and responses of the HTTP API about row changes; `/openapi.json` is generated from them. */

const CLOSED = { additionalProperties: false };

const Name = Type.String({ minLength: 1, maxLength: 63 });
const anyValues = (description: string) => Type.Record(Type.String(), Type.Unknown(), { description });
const count = (description: string) => Type.Integer({ description });

export const TableParams = Type.Object({ table: Name });
export const TableQuery = Type.Object({ schema: Type.Optional(Name) }, CLOSED);

export const NewTrigger = Type.Object(
  {
    identity: Type.Optional(
      Type.Literal('keep', { description: 'Leaves the replica identity of the table unchanged.' }),
    ),
  },
  CLOSED,
);

export const TableEnabled = Type.Object({
  message: Type.String(),
  table: Type.String(),
  warnings: Type.Optional(Type.Array(Type.String())),
});

export const TableDisabled = Type.Object({ message: Type.String(), table: Type.String() });

const TIERS =
  'How policies are evaluated. OPEN: row level security does not apply. INDEXED: by looking up the users of a row. COMPILED: in the server. POSTGRES: in PostgreSQL. CLOSED: the role receives no row.';

export const TableList = Type.Object({
  triggers: Type.Array(
    Type.Object({
      table: Type.String(),
      schema: Type.String(),
      source: Type.String({ description: 'Change source: logical (the WAL) or trigger (an outbox table).' }),
      active: Type.Boolean({ description: 'Whether the table still exists.' }),
      subscriptions: Type.Integer({ description: 'Number of subscriptions of channels to the table.' }),
      visibility: Type.Array(
        Type.Object({
          role: Type.String({ description: 'Database role of subscribers.' }),
          tier: Type.String({ description: TIERS }),
          reason: Type.String({ description: 'Why the table is in this tier.' }),
        }),
      ),
      created_at: Type.String({ description: 'When the table was enabled (ISO 8601).' }),
    }),
  ),
  total: Type.Integer(),
});

const FilterEvents = Type.Array(
  Type.Union([Type.Literal('INSERT'), Type.Literal('UPDATE'), Type.Literal('DELETE')]),
  { minItems: 1, maxItems: 3 },
);
const filterFields = {
  table: Name,
  schema: Type.Optional(Name),
  events: Type.Optional(FilterEvents),
  columns: Type.Optional(
    Type.Array(Name, { minItems: 1, maxItems: 1600, description: 'Columns to send. Missing: all.' }),
  ),
  condition: Type.Optional(
    Type.String({
      minLength: 1,
      maxLength: 4096,
      description: 'Boolean SQL expression over the columns of the row.',
    }),
  ),
};

export const NewSubscription = Type.Object(filterFields, CLOSED);

const Filter = Type.Object({ ...filterFields, schema: Name, events: FilterEvents });

export const Subscribed = Type.Object({
  message: Type.String(),
  channel: Type.String(),
  filter: Filter,
  subscription_id: Type.String(),
  warnings: Type.Optional(Type.Array(Type.String())),
});

const SubscriptionInfo = Type.Object({
  id: Type.String(),
  channel_name: Type.String(),
  filter: Filter,
  user_id: Type.String({ description: 'User who created the subscription.' }),
  created_at: Type.String({ description: 'When it was created (ISO 8601).' }),
  last_activity: Type.Union([Type.String(), Type.Null()], {
    description: 'When the last of these changes was sent.',
  }),
  message_count: count(
    'For server admins: number of changes sent to at least one member. For others: number of changes that their own connections have received, since the first of those that are open was opened.',
  ),
  active: Type.Boolean({ description: 'Whether the table is enabled for row changes.' }),
});

export const SubscriptionList = Type.Object({
  subscriptions: Type.Array(
    Type.Object({
      ...SubscriptionInfo.properties,
      removable: Type.Boolean({
        description: 'Whether you may remove it: that needs `admin` permission in its channel.',
      }),
    }),
  ),
  total: Type.Integer(),
});

export const SubscriptionParams = Type.Object({ id: Type.String() });

export const SubscriptionReport = Type.Object({
  ...SubscriptionInfo.properties,
  connection_id: Type.Optional(
    Type.String({ description: 'Connection that owns a personal subscription. Missing for a channel.' }),
  ),
  counts: Type.Object(
    {
      since: Type.String({ description: 'When counting began (ISO 8601).' }),
      delivered: count('Sent to at least one member.'),
      condition: count('Not matched by the condition.'),
      policy: count('Matched; policies hid the row from every member.'),
      privilege: count('Matched; no database role of the members can read the table.'),
      error: count('Matched; not sent because a policy or the condition raised an error.'),
      unheard: count('Matched; no member was connected.'),
    },
    {
      description:
        'Changes of the table with a subscribed event, while the table had a subscriber. Each change counts once.',
    },
  ),
});

export const ExplainRequestBody = Type.Object(
  {
    subscription_id: Type.Optional(
      Type.String({ description: 'Subscription whose table, events and condition are used.' }),
    ),
    table: Type.Optional(Name),
    schema: Type.Optional(Name),
    condition: Type.Optional(Type.String()),
    user: anyValues("Claims of the user's token."),
    key: Type.Optional(anyValues('Key of a row in the table: values by column.')),
    row: Type.Optional(anyValues('A whole row, which need not exist: values by column.')),
    at: Type.Optional(Type.String({ description: 'Cursor of a change in the resume window.' })),
  },
  CLOSED,
);

const PostgresError = Type.Object(
  { sqlstate: Type.String(), message: Type.String() },
  { description: 'Error that PostgreSQL raised.' },
);

const versionFields = {
  visible: Type.Boolean({ description: 'Whether the user receives it as a subscriber.' }),
  reasons: Type.Array(Type.String(), { description: 'Why, in sentences.' }),
  policies: Type.Array(
    Type.Object({
      name: Type.String(),
      permissive: Type.Boolean(),
      expression: Type.String(),
      result: Type.String({ description: 'true, false, null or error.' }),
      error: Type.Optional(PostgresError),
    }),
  ),
  condition: Type.Optional(
    Type.Object({
      text: Type.String(),
      holds: Type.Boolean({ description: 'Whether the condition is true for the row.' }),
      error: Type.Optional(PostgresError),
    }),
  ),
};

export const ExplanationBody = Type.Object({
  ...versionFields,
  user_id: Type.String(),
  role: Type.String({ description: 'Database role of the user.' }),
  tier: Type.String({ description: TIERS }),
  tier_reason: Type.String({ description: 'Why the table is in this tier for the role.' }),
  columns_left_out: Type.Array(Type.String(), { description: 'Columns that the role cannot read.' }),
  change: Type.Optional(
    Type.Object(
      {
        event: Type.String(),
        gets: Type.String({
          description:
            'What the user receives: the event; gained or lost if an UPDATE makes the row visible or hides it; or nothing.',
        }),
        old_version: Type.Optional(Type.Object(versionFields)),
      },
      {
        description:
          'Present for a change. The fields beside it describe its new row version, or the old one for a DELETE.',
      },
    ),
  ),
  listening: Type.Optional(count("Number of the user's connections that the subscription serves.")),
});
