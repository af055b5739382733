import { type Static, type TSchema, Type } from 'typebox';
import { LIMITS } from './limits.js';

/** The JSON schemas of every message on the wire; their types are inferred, and a test guards them by hash. */

const Timestamp = Type.String({ description: 'ISO 8601, UTC' });
const Ref = Type.Union([
  Type.Integer({ minimum: 0 }),
  Type.String({ minLength: 1, maxLength: LIMITS.refLength }),
]);

/** Any message from a client: the part that is common to all. Fields that only the server sets are ignored. */
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

/** The payload of `unsubscribe`/`database_changes`; without an id all end. */
export const ChangeUnsubscription = Type.Object(
  { id: Type.Optional(Type.String({ maxLength: 100 })) },
  { additionalProperties: false },
);

/** The payload of `auth`/`refresh`: another token of the same user. */
export const TokenRefresh = Type.Object(
  { token: Type.String({ minLength: 1 }) },
  { additionalProperties: false },
);

/** One user's presence: the user's own keys and the server's `last_seen`. */
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
});

export const Connected = Type.Object({
  channel: Type.String(),
  connection_id: Type.String(),
  user_id: Type.String(),
  cursor: Type.Optional(
    Type.String({ description: 'the row changes behind it come; give it back to get what was missed' }),
  ),
  recovered: Type.Boolean({ description: 'everything that was missed comes' }),
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

/** What a server message of a type and event carries. `null` as event: any name. */
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

/** What can happen to a row of a table, or (TRUNCATE) to all of them. */
export const CHANGE_EVENTS = ['INSERT', 'UPDATE', 'DELETE', 'TRUNCATE'] as const;
export type ChangeEvent = (typeof CHANGE_EVENTS)[number];

/** A row change as a member sees it: columns that the member may read, in the order of the table. */
export const RowChange = Type.Object({
  id: Type.String({ description: 'the same change has always the same id' }),
  table: Type.String(),
  schema: Type.String(),
  event: Type.Union(CHANGE_EVENTS.map((event) => Type.Literal(event))),
  old_record: Type.Union([Row, Type.Null()], {
    description: 'null where there was none, or where it was not visible',
  }),
  new_record: Type.Union([Row, Type.Null()]),
  timestamp: Timestamp,
  commit_timestamp: Type.String({ description: 'ISO 8601, UTC, to the microsecond' }),
  xid: Type.Integer({ description: 'the transaction' }),
  visibility: Type.Optional(
    Type.Union([Type.Literal('gained'), Type.Literal('lost')], {
      description: 'the row came into view, or went out of it; then old_record has its key alone',
    }),
  ),
  unchanged_columns: Type.Optional(
    Type.Array(Type.String(), { description: 'large values that did not change and are left out' }),
  ),
});
export type RowChange = Static<typeof RowChange>;

const DatabaseChange = Type.Object({ change: RowChange, subscription_ids: Type.Array(Type.String()) });

/** A row change with its place in the order of all changes. */
function changeMessage() {
  const { properties } = serverMessage('database_change', null, DatabaseChange);
  return Type.Object({ ...properties, cursor: Type.String() });
}

/** A published message; one that was sent by SQL has its place among row changes. */
function publishedMessage(type: 'message' | 'broadcast') {
  const { properties } = serverMessage(type, null, Type.Unknown());
  return Type.Object({ ...properties, cursor: Type.Optional(Type.String()) });
}

const Member = Type.Object({ user_id: Type.String(), state: PresenceState });

/** Every message that a server sends, by `type/event`. */
export const SERVER_MESSAGES = {
  'system/connected': serverMessage('system', 'connected', Connected),
  'system/channel_closed': serverMessage('system', 'channel_closed', Type.Object({ reason: Type.String() })),
  'system/error': serverMessage('system', 'error', ErrorBody),
  'system/token_expiring': serverMessage('system', 'token_expiring', Type.Object({ expires_at: Timestamp })),
  'system/gap': serverMessage(
    'system',
    'gap',
    Type.Object({ scope: Type.Literal('changes'), reason: Type.String() }),
  ),
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

/** Any message from the server. */
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

/** Which presence messages a connection asked for: one each, merged ones, or none. */
export const PRESENCE_MODES = ['each', 'diff', 'none'] as const;
export type PresenceMode = (typeof PRESENCE_MODES)[number];
