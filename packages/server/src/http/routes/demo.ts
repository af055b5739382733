import { type Static, Type } from 'typebox';
import type { Identity } from '../../auth/identity.js';
import { FILTER_EVENTS } from '../../changes/model/change-filter.js';
import { DEFAULT_DB_ROLE } from '../../changes/model/viewer.js';
import { requireRate } from '../../channels/rate-limit.js';
import { channelOf, userOf } from '../access.js';
import { invalid } from '../error-reply.js';
import { signalOf } from '../pending-requests.js';
import type { App } from '../route.js';
import { ChannelParams } from '../schemas.js';
import type { MessageRouteParts } from './messages.js';
import type { ChangeRouteParts, RowChangeParts } from './row-change-parts.js';
import { listedSubscription, subscribeChannel } from './subscriptions.js';

/** A new user for the page of an unconfigured server. */
export interface DemoUser {
  readonly user_id: string;
  readonly token: string;
  readonly channel: string;
}

/** Actions of the page of an unconfigured server, which need no set-up. */
export interface Demo {
  newUser(): Promise<DemoUser>;
  /** Inserts a row into the example table `messages`, as a row of this user. */
  insertMessage(userId: string, content: string): Promise<void>;
}

interface DemoRouteParts extends ChangeRouteParts, Pick<MessageRouteParts, 'messageRate' | 'clock'> {
  /** Present only on an unconfigured server. */
  readonly demo: Demo | undefined;
}

const EXAMPLE = { table: 'messages', schema: 'public', events: FILTER_EVENTS } as const;
const UUID = /^[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12}$/i;
const NewExample = Type.Object(
  // A text of PostgreSQL cannot contain NUL.
  { content: Type.String({ minLength: 1, maxLength: 1000, pattern: '^[^\\u0000]*$' }) },
  { additionalProperties: false },
);

/**
 * Gives the page of an unconfigured server a user and an example table, so that it shows row changes without
 * any set-up. On a configured server `/demo-session` answers 204: browsers would log a 404 as an error of the
 * page.
 */
export function demoRoutes(app: App, parts: DemoRouteParts): void {
  const { demo, rowChanges } = parts;
  app.get(
    '/demo-session',
    { schema: { hide: true }, config: { access: 'public' } },
    async (_request, reply) => {
      if (demo === undefined) return reply.code(204).send();
      const rows = rowChanges === undefined ? {} : { example_table: EXAMPLE.table };
      return reply.send({ ...(await demo.newUser()), ...rows });
    },
  );
  if (demo !== undefined && rowChanges !== undefined) exampleRoutes(app, parts, rowChanges, demo);
}

/**
 * Demo users are not admins, so that row level security applies to them. These routes do for them what needs
 * an admin.
 */
function exampleRoutes(app: App, parts: DemoRouteParts, rowChanges: RowChangeParts, demo: Demo): void {
  const admit = (identity: Identity) => requireRate(parts.messageRate, identity.limitedAs, parts.clock());
  app.post(
    '/demo/channels/:name/subscribe',
    {
      schema: { hide: true, params: ChannelParams },
      config: { access: { channel: 'write' }, needsPostgres: true },
    },
    async (request) => {
      const identity = userOf(request);
      admit(identity);
      const subscriber = {
        userId: identity.userId,
        role: DEFAULT_DB_ROLE,
        isServerAdmin: true,
        user: identity.limitedAs,
        signal: signalOf(request),
      };
      const answer = await subscribeChannel(parts, channelOf(request).name, EXAMPLE, subscriber);
      const { tableOid } = rowChanges.subscriptions.get(answer.subscription_id);
      return { ...answer, visibility: tableOid === undefined ? [] : await rowChanges.tiers(tableOid) };
    },
  );
  // The first demo user owns the subscription; this route shows it to the others too.
  app.get(
    '/demo/channels/:name/subscriptions',
    { schema: { hide: true, params: ChannelParams }, config: { access: { channel: 'read' } } },
    async (request) => {
      const { name } = channelOf(request);
      const shown = rowChanges.subscriptions
        .list()
        .filter(({ channelName }) => channelName === name)
        .filter(({ filter }) => filter.table === EXAMPLE.table && filter.schema === EXAMPLE.schema);
      const identity = userOf(request);
      return {
        subscriptions: shown.map((subscription) => listedSubscription(identity, subscription, parts)),
      };
    },
  );
  app.post(
    '/demo/messages',
    { schema: { hide: true, body: NewExample }, config: { access: 'token', needsPostgres: true } },
    async (request) => {
      const identity = userOf(request);
      admit(identity);
      // The column is a uuid, like the ids of demo users; a pasted token can have any user id.
      if (!UUID.test(identity.userId)) throw invalid('user_id', 'must be a UUID in the token');
      const { content } = request.body as Static<typeof NewExample>;
      await demo.insertMessage(identity.userId, content);
      return { message: 'row inserted successfully' };
    },
  );
}
