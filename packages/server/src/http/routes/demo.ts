import { type Static, Type } from 'typebox';
import type { Identity } from '../../auth/identity.js';
import { FILTER_EVENTS } from '../../changes/model/change-filter.js';
import { DEFAULT_DB_ROLE } from '../../changes/model/viewer.js';
import { requireRate } from '../../channels/rate-limit.js';
import { channelOf, userOf } from '../access.js';
import { invalid } from '../error-reply.js';
import type { App } from '../route.js';
import { ChannelParams } from '../schemas.js';
import { type ChangeRouteParts, listedFor, type RowChangeParts, subscribeChannel } from './changes.js';
import type { MessageRouteParts } from './messages.js';

/** A fresh user for the page of an unconfigured server. */
export interface DemoUser {
  readonly user_id: string;
  readonly token: string;
  readonly channel: string;
}

/** What the page of an unconfigured server can do without anybody having set anything up. */
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
  // PostgreSQL's text takes every character but NUL.
  { content: Type.String({ minLength: 1, maxLength: 1000, pattern: '^[^\\u0000]*$' }) },
  { additionalProperties: false },
);

/**
 * How the page connects at once and shows row changes with nothing set up. Only an unconfigured server has any of it;
 * on another one `/demo-session` answers 204, because a 404 would stand in the console of every browser as an error
 * of the page.
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

/** Demo users are no admins, so that row level security judges them; what an admin would do is done for them here. */
function exampleRoutes(app: App, parts: DemoRouteParts, rowChanges: RowChangeParts, demo: Demo): void {
  const admit = (identity: Identity) => requireRate(parts.messageRate, identity.limitedAs, parts.clock());
  app.post(
    '/demo/channels/:name/subscribe',
    { schema: { hide: true, params: ChannelParams }, config: { access: { channel: 'write' } } },
    async (request) => {
      const identity = userOf(request);
      admit(identity);
      const subscriber = { userId: identity.userId, role: DEFAULT_DB_ROLE, isServerAdmin: true };
      const answer = await subscribeChannel(parts, channelOf(request).name, EXAMPLE, subscriber);
      const { tableOid } = rowChanges.subscriptions.get(answer.subscription_id);
      return { ...answer, visibility: tableOid === undefined ? [] : await rowChanges.tiers(tableOid) };
    },
  );
  // A demo user follows the table for all: who came first owns the subscription, and the others see it here.
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
      return { subscriptions: shown.map((subscription) => listedFor(identity, subscription, parts)) };
    },
  );
  app.post(
    '/demo/messages',
    { schema: { hide: true, body: NewExample }, config: { access: 'token' } },
    async (request) => {
      const identity = userOf(request);
      admit(identity);
      // The column is a uuid, and so are demo users; a pasted token may be of anybody.
      if (!UUID.test(identity.userId)) throw invalid('user_id', 'of the token is not a UUID');
      const { content } = request.body as Static<typeof NewExample>;
      await demo.insertMessage(identity.userId, content);
      return { message: 'row inserted successfully' };
    },
  );
}
