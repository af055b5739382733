import { type Static, type TSchema, Type } from 'typebox';
import { LIMITS } from './limits.js';

/** The JSON schemas of all messages. Types are inferred from them; a test guards them by hash. */

const Timestamp = Type.String({ description: 'ISO 8601, UTC' });
const Ref = Type.Union([
  Type.Integer({ minimum: 0 }),
  Type.String({ minLength: 1, maxLength: LIMITS.refLength }),
]);

/** The common part of all client messages. Fields that only the server sets are ignored. */
export const ClientMessage = Type.Object({
  type: Type.String({ minLength: 1, maxLength: 50 }),
  event: Type.String({ minLength: 1, maxLength: LIMITS.eventLength }),
  payload: Type.Optional(Type.Unknown()),
  ref: Type.Optional(Ref),
});
export type ClientMessage = Static<typeof ClientMessage>;

/** The payload of `presence`/`update`. */
export const PresenceUpdate = Type.Object({ state: Type.Record(Type.String(), Type.Unknown()) });
export type PresenceUpdate = Static<typeof PresenceUpdate>;

const ColumnOrTable = Type.String({ minLength: 1, maxLength: 63 });

/** The payload of `subscribe`/`database_changes`. */
export const ChangeSubscription = Type.Object(
  {
    table: ColumnOrTable,
    schema: Type.Optional(ColumnOrTable),
    events: Type.Optional(
      Type.Array(Type.Union([Type.Literal('INSERT'), Type.Literal('UPDATE'), Type.Literal('DELETE')]), {
        minItems: 1,
        maxItems: 3,
      }),
    ),
    columns: Type.Optional(Type.Array(ColumnOrTable, { minItems: 1, maxItems: 1600 })),
    condition: Type.Optional(Type.String({ minLength: 1, maxLength: 4096 })),
    snapshot: Type.Optional(Type.Boolean()),
  },
  { additionalProperties: false },
);

/** The payload of `unsubscribe`/`database_changes`. Without an id, all own subscriptions end. */
export const ChangeUnsubscription = Type.Object(
  { id: Type.Optional(Type.String({ maxLength: 100 })) },
  { additionalProperties: false },
);

/** The payload of `auth`/`refresh`: another token of the same user. */
export const TokenRefresh = Type.Object(
  { token: Type.String({ minLength: 1 }) },
  { additionalProperties: false },
);

/** The presence state of one user: the user's own keys and the server's `last_seen`. */
export const PresenceState = Type.Object(
  { status: Type.Optional(Type.Unknown()), last_seen: Timestamp },
  { additionalProperties: true },
);
export type PresenceState = { [key: string]: unknown; last_seen: string };

export const PresenceMap = Type.Record(Type.String(), PresenceState);
export type PresenceMap = { [userId: string]: PresenceState };

export const ErrorBody = Type.Object({
  error: Type.String(),
  code: Type.String(),
  details: Type.Optional(Type.String()),
  required_permission: Type.Optional(Type.String()),
  feature: Type.Optional(Type.String()),
  field: Type.Optional(Type.String()),
  max_bytes: Type.Optional(Type.Integer()),
  retry_after: Type.Optional(Type.Integer({ description: 'seconds' })),
  limit: Type.Optional(Type.Integer()),
  reason: Type.Optional(Type.String()),
  subscription_id: Type.Optional(Type.String()),
  cause: Type.Optional(Type.Literal('condition')),
});

export const Connected = Type.Object({
  channel: Type.String(),
  connection_id: Type.String(),
  user_id: Type.String(),
  cursor: Type.Optional(
    Type.String({ description: 'position among row changes; reconnect with it to get the missed ones' }),
  ),
  recovered: Type.Boolean({ description: 'all missed row changes follow' }),
  subscriber_count: Type.Integer(),
  presence_count: Type.Integer(),
  presence: Type.Optional(PresenceMap),
  ping_interval_ms: Type.Integer(),
  token_expires_at: Type.Optional(Timestamp),
  limits: Type.Object({
    max_message_size: Type.Integer({ description: 'bytes' }),
    message_rate: Type.Number({ description: 'messages per second and user' }),
    presence_state_bytes: Type.Integer({ description: 'bytes' }),
  }),
});
export type Connected = Static<typeof Connected>;

/** Builds the schema of a server message. `null` as event allows any name. */
function serverMessage<T extends string, P extends TSchema>(type: T, event: string | null, payload: P) {
  return Type.Object({
    id: Type.String({ pattern: '^msg_[0-9]+_[a-z0-9]+$' }),
    type: Type.Literal(type),
    event: event === null ? Type.String() : Type.Literal(event),
    payload,
    user_id: Type.String(),
    timestamp: Timestamp,
    ref: Type.Optional(Ref),
  });
}

const Row = Type.Record(Type.String(), Type.Unknown());

/** The kinds of row changes; TRUNCATE concerns all rows of a table. */
export const CHANGE_EVENTS = ['INSERT', 'UPDATE', 'DELETE', 'TRUNCATE'] as const;
export type ChangeEvent = (typeof CHANGE_EVENTS)[number];

/** A row change as sent to a member: the columns that the member may read, in the order of the table. */
export const RowChange = Type.Object({
  id: Type.String({ description: 'the same change always has the same id' }),
  table: Type.String(),
  schema: Type.String(),
  event: Type.Union(CHANGE_EVENTS.map((event) => Type.Literal(event))),
  old_record: Type.Union([Row, Type.Null()], {
    description: 'null if there was none, or it was not visible',
  }),
  new_record: Type.Union([Row, Type.Null()]),
  timestamp: Timestamp,
  commit_timestamp: Type.String({ description: 'ISO 8601, UTC, to the microsecond' }),
  xid: Type.Integer({ description: 'transaction id' }),
  visibility: Type.Optional(
    Type.Union([Type.Literal('gained'), Type.Literal('lost')], {
      description:
        'gained: the row became visible to you; lost: it no longer is, and old_record has only its key',
    }),
  ),
  unchanged_columns: Type.Optional(
    Type.Array(Type.String(), { description: 'columns with large unchanged values, which are omitted' }),
  ),
});
export type RowChange = Static<typeof RowChange>;

const DatabaseChange = Type.Object({ change: RowChange, subscription_ids: Type.Array(Type.String()) });

/** Builds the schema of a row change message, which has a cursor. */
function changeMessage() {
  const { properties } = serverMessage('database_change', null, DatabaseChange);
  return Type.Object({ ...properties, cursor: Type.String() });
}

/** Builds the schema of a published message. A message sent by SQL has a cursor among row changes. */
function publishedMessage(type: 'message' | 'broadcast') {
  const { properties } = serverMessage(type, null, Type.Unknown());
  return Type.Object({ ...properties, cursor: Type.Optional(Type.String()) });
}

/** Builds the schema of `gap`. One that stands in place of a single change has the cursor of that change. */
function gapMessage() {
  const { properties } = serverMessage(
    'system',
    'gap',
    Type.Object({
      scope: Type.Literal('changes'),
      reason: Type.String(),
      subscription_ids: Type.Optional(
        Type.Array(Type.String(), { description: 'only their changes were lost; missing: those of all' }),
      ),
    }),
  );
  return Type.Object({ ...properties, cursor: Type.Optional(Type.String()) });
}

const Member = Type.Object({ user_id: Type.String(), state: PresenceState });

/** All messages that the server sends, by `type/event`. */
export const SERVER_MESSAGES = {
  'system/connected': serverMessage('system', 'connected', Connected),
  'system/channel_closed': serverMessage('system', 'channel_closed', Type.Object({ reason: Type.String() })),
  'system/error': serverMessage('system', 'error', ErrorBody),
  'system/token_expiring': serverMessage('system', 'token_expiring', Type.Object({ expires_at: Timestamp })),
  'system/gap': gapMessage(),
  'system/snapshot': serverMessage(
    'system',
    'snapshot',
    Type.Object({ subscription_id: Type.String(), rows: Type.Array(Row), more: Type.Boolean() }),
  ),
  'system/database_down': serverMessage('system', 'database_down', Type.Object({ reason: Type.String() })),
  'system/database_up': serverMessage('system', 'database_up', Type.Object({})),
  'database_change/*': changeMessage(),
  'message/*': publishedMessage('message'),
  'broadcast/*': publishedMessage('broadcast'),
  'presence/join': serverMessage('presence', 'join', Member),
  'presence/update': serverMessage('presence', 'update', Member),
  'presence/leave': serverMessage('presence', 'leave', Member),
  'presence/diff': serverMessage(
    'presence',
    'diff',
    Type.Object({ joins: PresenceMap, updates: PresenceMap, leaves: PresenceMap }),
  ),
  'reply/ok': serverMessage(
    'reply',
    'ok',
    Type.Object({
      subscription_id: Type.Optional(Type.String()),
      token_expires_at: Type.Optional(Timestamp),
    }),
  ),
  'reply/error': serverMessage('reply', 'error', ErrorBody),
  'pong/pong': serverMessage('pong', 'pong', Type.Object({})),
} as const;

export type ServerMessageType =
  | 'system'
  | 'message'
  | 'broadcast'
  | 'presence'
  | 'reply'
  | 'pong'
  | 'database_change';

/** A message from the server. */
export interface ServerMessage {
  readonly id: string;
  readonly type: ServerMessageType;
  readonly event: string;
  readonly payload: unknown;
  readonly user_id: string;
  readonly timestamp: string;
  readonly ref?: string | number;
  readonly cursor?: string;
}

/** The presence messages that a connection gets: one per change, merged ones, or none. */
export const PRESENCE_MODES = ['each', 'diff', 'none'] as const;
export type PresenceMode = (typeof PRESENCE_MODES)[number];
