/** What a client does after an error: give up, retry later, get a new token, or change the request. */
export type RetryPolicy = 'never' | 'later' | 'new-token' | 'change-request';

interface ErrorRow {
  /** HTTP status, or null for an error that is sent over sockets only. */
  readonly http: number | null;
  /** WebSocket close code, or null if the connection stays open or the error is sent over HTTP only. */
  readonly close: number | null;
  readonly retry: RetryPolicy;
  /** The literal `error` text. An error that names something, such as a channel, has its own text. */
  readonly text: string;
  /** One sentence for the table of the reference page. */
  readonly doc: string;
  /** What led to the error, in Markdown for the reference page. */
  readonly cause: string;
  /** What the developer or operator does about it, in Markdown for the reference page. */
  readonly fix: string;
}

/**
 * All errors by code. Close codes 4000 to 4499 allow a client to reconnect, 4500 to 4999 forbid it. HTTP
 * statuses, close frames and the reference page come from this table.
 */
export const ERRORS = {
  AUTH_FAILED: {
    http: 401,
    close: 4401,
    retry: 'new-token',
    text: 'authentication failed',
    doc: 'The token is missing, invalid or expired; `reason` says which.',
    cause:
      "A token is required and none was sent, the token was rejected, or the token of an open connection expired. A connection without a token also gets this for a channel that does not exist. `reason` says what is wrong with the token: `missing`, `malformed` (not a JWT), `signature` (signed with another key), `expired`, `not_yet_valid`, `issuer`, `audience`, `algorithm` or `claims` (no usable user, or another user than the connection's). The same code, without `reason` and with `retry_after` in seconds, is sent while the key set at `REALTIME_JWKS_URL` cannot be fetched.",
    fix: 'Get a new token and reconnect, or send it on the open connection with `auth`/`refresh` before the old one expires. If all tokens are rejected, the operator compares them with the settings: the key (`REALTIME_JWT_SECRET`, `REALTIME_JWT_PUBLIC_KEY` or `REALTIME_JWKS_URL`), `REALTIME_JWT_ISSUER`, `REALTIME_JWT_AUDIENCE` and `REALTIME_JWT_ALGORITHMS`.',
  },
  PERMISSION_DENIED: {
    http: 403,
    close: 4503,
    retry: 'never',
    text: 'insufficient permissions',
    doc: 'The roles of the user do not allow this; `required_permission` names the missing permission.',
    cause:
      "None of the user's roles is in the channel's `read`, `write` or `admin` list, or the endpoint is for server admins. A channel without an `admin` list is administered by server admins only.",
    fix: "Give the user a role of that list in the token's claims `role`, `roles` or `app_metadata.roles`, or give the channel other lists (`permissions` of `POST /realtime/channels`). A server admin's token has a role of `REALTIME_ADMIN_ROLES`.",
  },
  ORIGIN_NOT_ALLOWED: {
    http: 403,
    close: 4503,
    retry: 'never',
    text: 'origin not allowed',
    doc: 'The `Origin` of the request, or the `Host` on an unconfigured server, is not allowed.',
    cause:
      'A web page of another origin called the server, and `REALTIME_ALLOWED_ORIGINS` does not list that origin. A server without configuration (no token key, no `DATABASE_URL`, a loopback `REALTIME_HOST`) also rejects every `Host` but localhost, 127.0.0.1 and [::1].',
    fix: 'Add the origin of the page, with scheme and port, to `REALTIME_ALLOWED_ORIGINS`. For another `Host`, configure the server: set a token key or `DATABASE_URL`.',
  },
  FEATURE_DISABLED: {
    http: 403,
    close: 4503,
    retry: 'never',
    text: 'feature disabled',
    doc: 'A setting turned this feature off; `feature` names it.',
    cause:
      'The feature is off: `broadcast` by `REALTIME_ENABLE_BROADCAST`, `presence` by `REALTIME_ENABLE_PRESENCE`, `db_streaming` (row changes) by `REALTIME_ENABLE_DB_STREAMING`, `metrics` by `REALTIME_ENABLE_METRICS`.',
    fix: 'Set that variable to `true` and restart the server, or do not use the feature.',
  },
  CHANNEL_NOT_FOUND: {
    http: 404,
    close: 4504,
    retry: 'never',
    text: 'channel not found',
    doc: 'The channel does not exist, or was deleted.',
    cause:
      'No channel has this name. Joining a channel creates it only if `REALTIME_AUTO_CREATE_CHANNELS` is on; publishing over HTTP never does. An automatic channel is removed when it was empty and unused for `REALTIME_CHANNEL_TTL`, or earlier at the limit `REALTIME_MAX_CHANNELS`. A deleted channel is not created again by joining it.',
    fix: 'Check the name. A server admin creates the channel with `POST /realtime/channels`, which also makes it permanent and restores a deleted name.',
  },
  TABLE_NOT_ALLOWED: {
    http: 403,
    close: 4503,
    retry: 'never',
    text: 'table not allowed',
    doc: 'Row changes of this table cannot be enabled; `details` says why.',
    cause:
      '`REALTIME_FILTER_TABLES` or `REALTIME_EXCLUDE_TABLES` leaves the table out, the login of the server lacks a privilege (only the owner of a table can publish it), or the table has no row changes of its own: views, foreign, temporary, unlogged and system tables, and partitions. Partitioned tables need a primary key, and `"identity": "keep"` needs a key.',
    fix: "Do what `details` says: change the setting, grant the table's owner role to the login of `DATABASE_URL`, enable the partitioned table instead of its partition, add a primary key, or run `ALTER TABLE … SET LOGGED`.",
  },
  TABLE_NOT_FOUND: {
    http: 404,
    close: 4504,
    retry: 'never',
    text: 'table not found',
    doc: 'The table does not exist.',
    cause:
      'The database of `DATABASE_URL` has no table of this name in this schema. Names are case-sensitive, and the schema is `public` unless the request names another.',
    fix: 'Check the table name, and add `?schema=` (in a body: `schema`) for a table outside `public`.',
  },
  TRIGGER_NOT_FOUND: {
    http: 404,
    close: 4504,
    retry: 'never',
    text: 'trigger not found',
    doc: 'The table is not enabled for row changes.',
    cause: '`DELETE /realtime/triggers/:table` named a table that exists but is not enabled for row changes.',
    fix: 'Nothing is left to disable. `GET /realtime/triggers` lists the enabled tables with their schemas.',
  },
  SUBSCRIPTION_NOT_FOUND: {
    http: 404,
    close: 4504,
    retry: 'never',
    text: 'subscription not found',
    doc: 'The subscription to row changes does not exist, or has ended.',
    cause:
      'No subscription has this id. It was removed, its channel was deleted, or it belonged to a connection that has closed. `unsubscribe` on a socket finds only subscriptions of that connection.',
    fix: 'Read the present ids from `GET /realtime/subscriptions`, or subscribe again.',
  },
  NOT_FOUND: {
    http: 404,
    close: 4504,
    retry: 'never',
    text: 'not found',
    doc: 'There is no such endpoint.',
    cause:
      'No endpoint has this path. WebSocket connections are accepted only at `/realtime/channels/:name/ws`.',
    fix: 'Compare the path with `/openapi.json` or `/docs`. Behind a reverse proxy, check that it does not rewrite paths.',
  },
  VALIDATION_FAILED: {
    http: 400,
    close: null,
    retry: 'change-request',
    text: 'validation failed',
    doc: 'A part of the request is invalid; `field` names it and `details` says why.',
    cause:
      'A field of the body, query, path, headers or message is missing, unknown or of the wrong type or size. Values are not converted: `"5"` is not `5`. Requests that are not valid HTTP get this code too, with the field `request`. A WebSocket handshake with an invalid channel name (field `name`) or query value is accepted, sent this error and closed with 4500; after three times it gets the HTTP status.',
    fix: 'Correct the part that `field` names. `/openapi.json` has the schemas of all HTTP requests.',
  },
  INVALID_JSON: {
    http: 400,
    close: null,
    retry: 'change-request',
    text: 'invalid JSON',
    doc: 'The body or message is not valid JSON.',
    cause:
      'The text is not valid JSON, is nested deeper than 64 levels, or came in a binary WebSocket frame.',
    fix: 'Send JSON as text, for example the result of `JSON.stringify`, and flatten deeply nested data.',
  },
  UNKNOWN_MESSAGE_TYPE: {
    http: 400,
    close: null,
    retry: 'change-request',
    text: 'unknown message type',
    doc: 'A socket message has a `type` that clients cannot send.',
    cause: 'The `type` of the message is misspelled, or is one that only the server sends.',
    fix: 'Use one of the types in `details`. An application event goes into `event`, with the type `broadcast` or `message`.',
  },
  DB_SUBSCRIPTION_FAILED: {
    http: 400,
    close: null,
    retry: 'change-request',
    text: 'failed to subscribe to database changes',
    doc: 'The subscription to row changes is not possible; `details` says why.',
    cause:
      'The table does not exist, is not enabled or cannot be enabled; a column does not exist or is generated; the database role may not read the table or a column; or the condition is not one that PostgreSQL accepts. The same code is sent for a snapshot over 10,000 rows or 16 MB or that takes PostgreSQL more than ten seconds, for one that the server cannot store in a temporary file, and for too many subscriptions (`limit` where a connection has its own).',
    fix: 'Do what `details` says. A server admin enables a table with `POST /realtime/triggers/:table`. The owner of the table grants SELECT to the database role. A condition or fewer columns make a snapshot smaller; unused subscriptions can be ended with `unsubscribe` or `DELETE /realtime/subscriptions/:id`.',
  },
  METHOD_NOT_ALLOWED: {
    http: 405,
    close: null,
    retry: 'change-request',
    text: 'method not allowed',
    doc: 'The endpoint exists, but not with this method.',
    cause: 'The path is right and the HTTP method is not.',
    fix: 'Use a method of the `Allow` header of the answer.',
  },
  CHANNEL_EXISTS: {
    http: 409,
    close: null,
    retry: 'change-request',
    text: 'channel already exists',
    doc: 'A channel of this name exists already.',
    cause:
      'The channel was created before, is being created by another request, or is an automatic one that a client created by joining.',
    fix: 'Use the existing channel. To change its configuration, delete it with `DELETE /realtime/channels/:name`, which disconnects its members, and create it again.',
  },
  MESSAGE_TOO_LARGE: {
    http: 413,
    close: null,
    retry: 'change-request',
    text: 'message too large',
    doc: 'A message, body or presence state is larger than `max_bytes`.',
    cause:
      "An HTTP body is larger than `REALTIME_MAX_MESSAGE_SIZE`, a message is larger than the channel's `permissions.max_message_size`, or a presence state is larger than 8192 bytes as JSON. A socket message over `REALTIME_MAX_MESSAGE_SIZE` closes the connection with 1009 instead.",
    fix: 'Send less than `max_bytes`: split the message, or send a reference to the data. Remove presence keys by setting them to `null`. The operator can raise `REALTIME_MAX_MESSAGE_SIZE`.',
  },
  RATE_LIMIT_EXCEEDED: {
    http: 429,
    close: 4429,
    retry: 'later',
    text: 'rate limit exceeded',
    doc: 'Too many messages, connections, HTTP requests, pending requests or errors; `retry_after` is in seconds.',
    cause:
      "The user sent messages or pings faster than `REALTIME_MESSAGE_RATE` or the channel's `permissions.rate_limit`, over sockets and HTTP together, or the address opened connections faster than `REALTIME_CONNECTION_RATE` or sent HTTP requests faster than `REALTIME_HTTP_RATE`. Requests that wait for PostgreSQL (subscriptions, snapshots, token refreshes) are limited too: at most 16 and 256 kB of a connection, and 64 and 1 MB of a user over all its connections and HTTP requests. A connection may refresh its token once per second, with a burst of 10. A connection that causes more than 100 errors within a minute is closed with 4429.",
    fix: 'Wait `retry_after` seconds, then send less often. The operator can raise the rates. Behind a proxy, set `REALTIME_TRUSTED_PROXIES`; otherwise all clients count as one address.',
  },
  CHANNEL_FULL: {
    http: 429,
    close: 4430,
    retry: 'later',
    text: 'channel is full',
    doc: 'The channel has `limit` connections.',
    cause:
      'The channel has as many connections as its `max_subscribers` allows. A channel created without that field has `REALTIME_MAX_USERS_PER_CHANNEL`.',
    fix: 'Try again when members have left. For larger channels, create them with a larger `max_subscribers` or raise `REALTIME_MAX_USERS_PER_CHANNEL`; both apply to new channels only.',
  },
  CHANNEL_LIMIT_REACHED: {
    http: 429,
    close: 4430,
    retry: 'later',
    text: 'channel limit reached',
    doc: 'The server has `limit` channels, and none can be removed.',
    cause:
      'The server has `REALTIME_MAX_CHANNELS` channels, and all are permanent or have members. Otherwise the automatic channel that was empty for longest would have been removed.',
    fix: 'Delete permanent channels that are no longer used with `DELETE /realtime/channels/:name`, or raise `REALTIME_MAX_CHANNELS`.',
  },
  CONNECTION_LIMIT_REACHED: {
    http: 429,
    close: 4430,
    retry: 'later',
    text: 'connection limit reached',
    doc: 'The server, the user or the address has `limit` connections.',
    cause:
      'One more connection would exceed `REALTIME_MAX_CONNECTIONS`, `REALTIME_MAX_CONNECTIONS_PER_USER` or `REALTIME_MAX_CONNECTIONS_PER_IP`. `details` says which.',
    fix: 'Close connections that are no longer used; a common cause is a page that reconnects without closing the old socket. The operator can raise the limit. Behind a proxy, set `REALTIME_TRUSTED_PROXIES`; otherwise all clients count as one address.',
  },
  STALE_CONNECTION: {
    http: null,
    close: 4408,
    retry: 'later',
    text: 'connection is stale',
    doc: 'The client sent nothing, not even a pong, for too long.',
    cause:
      'Nothing arrived from the client for `REALTIME_CONNECTION_TIMEOUT`, although the server pings every `REALTIME_PING_INTERVAL`. Usually the network was lost or the device was suspended.',
    fix: 'Reconnect, with the last `cursor` to get missed row changes. If it happens to connected clients, look for a proxy that drops pings or pongs, or raise `REALTIME_CONNECTION_TIMEOUT`.',
  },
  SLOW_CONSUMER: {
    http: null,
    close: 4409,
    retry: 'later',
    text: 'connection reads too slowly',
    doc: 'The client reads more slowly than messages are sent to it.',
    cause:
      'More than `REALTIME_MAX_OUTBOX` was waiting to be sent to the connection, or it made no progress with row changes for too long, or it read a snapshot at less than 32 kB/s, averaged over ten seconds. The unsent messages are dropped.',
    fix: 'Reconnect, with the last `cursor` to get missed row changes. Handle messages faster, or subscribe to fewer channels and rows. The operator can raise `REALTIME_MAX_OUTBOX`, at the cost of memory per connection.',
  },
  POLICY_ERROR: {
    http: null,
    close: null,
    retry: 'never',
    text: 'a row level security policy failed',
    doc: 'A policy or the condition of `subscription_id` fails for this user; the rows on which it fails are not sent.',
    cause:
      'A row level security policy of the table, or the condition of the subscription, raised an error or took too long for this user. It is reported once until the table or its policies change.',
    fix: 'The author of the policy or condition corrects it. `POST /realtime/explain` shows the result of each policy for a user and a row. Common causes are a cast of a missing claim and a division by zero.',
  },
  CONDITION_TOO_SLOW: {
    http: null,
    close: null,
    retry: 'change-request',
    text: 'the condition takes too much time',
    doc: 'The subscription `subscription_id` has ended, because its condition takes too much time in PostgreSQL.',
    cause:
      "PostgreSQL evaluates the condition, and the conditions of this user (of a channel's subscription: this one alone) took more than 100 ms of each second, averaged over ten seconds, while the conditions of others were fast. Of a user's subscriptions, the one that took the most time ended. `cause` is `condition`. A `gap` with `subscription_ids` follows.",
    fix: 'Subscribe again with another condition: equality, `IN`, comparisons of numbers and times, and `LIKE` are evaluated in the server and have no such budget. Regular expressions over long texts, JSON and arithmetic take time in PostgreSQL for each change.',
  },
  CHANNEL_CLOSED: {
    http: null,
    close: 4510,
    retry: 'never',
    text: 'channel closed',
    doc: 'The channel was deleted while the connection was its member.',
    cause:
      '`DELETE /realtime/channels/:name` deleted the channel. Its members get `system`/`channel_closed` with a `reason`, then the close frame.',
    fix: 'Do not reconnect: joining is answered with `CHANNEL_NOT_FOUND` until `POST /realtime/channels` creates the channel again.',
  },
  DATABASE_UNAVAILABLE: {
    http: 503,
    close: null,
    retry: 'later',
    text: 'database unavailable',
    doc: 'This needs PostgreSQL, which is unavailable; `retry_after` is in seconds.',
    cause:
      'PostgreSQL cannot be reached or does not answer in time, all connections to it are in use, statements that it cannot cancel are still running, the channels are not loaded yet, or a transaction holds a lock on the table (`details`). If the connection was lost during the request, its change may have been stored.',
    fix: 'Retry after `retry_after` seconds. The operator reads the reason from the log or `/readyz`, and checks `DATABASE_URL`; `goforward-realtime doctor` checks what row changes need.',
  },
  INTERNAL: {
    http: 500,
    close: 1011,
    retry: 'later',
    text: 'internal error',
    doc: 'An unexpected error of the server. The log has the cause; the answer does not.',
    cause:
      'The server failed in a way that it does not expect. The answer contains no details, because they may hold data of other users.',
    fix: 'Retry later. The operator finds the error, with its stack, in the log at level `error`, and reports it as a defect.',
  },
} as const satisfies Record<string, ErrorRow>;

export type ErrorCode = keyof typeof ERRORS;

/** The values of `reason` of `AUTH_FAILED`. */
export const AUTH_FAILURE_REASONS = [
  'missing',
  'malformed',
  'signature',
  'expired',
  'not_yet_valid',
  'issuer',
  'audience',
  'algorithm',
  'claims',
] as const;
export type AuthFailureReason = (typeof AUTH_FAILURE_REASONS)[number];

/** The fields that an error may have besides `error`, `code` and `details`. */
export interface ErrorFields {
  readonly required_permission?: 'read' | 'write' | 'admin';
  readonly feature?: string;
  readonly field?: string;
  readonly max_bytes?: number;
  readonly retry_after?: number;
  readonly limit?: number;
  readonly reason?: string;
  readonly subscription_id?: string;
  /** What about the subscription failed. */
  readonly cause?: 'condition';
}

/** An error as clients receive it, over HTTP, in `system`/`error` and in `reply`/`error`. */
export interface ErrorBody extends ErrorFields {
  readonly error: string;
  readonly code: ErrorCode;
  readonly details?: string;
}

/** An error that is sent to the client. Its body never contains a stack, SQL, a role or a secret. */
export class ProtocolError extends Error {
  readonly code: ErrorCode;
  readonly body: ErrorBody;

  constructor(
    code: ErrorCode,
    options: { error?: string; details?: string; fields?: ErrorFields; cause?: unknown } = {},
  ) {
    const error = options.error ?? ERRORS[code].text;
    super(error, options.cause === undefined ? undefined : { cause: options.cause });
    this.name = 'ProtocolError';
    this.code = code;
    this.body = {
      error,
      code,
      ...(options.details === undefined ? {} : { details: options.details }),
      ...options.fields,
    };
  }
}
