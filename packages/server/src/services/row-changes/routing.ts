import type { SqlMessages } from '../../changes/log/sql-messages.js';
import { BatchRouter } from '../../changes/routing/batch-router.js';
import { ChangeEncoder } from '../../changes/routing/change-encoder.js';
import { Recipients } from '../../changes/routing/recipients.js';
import { TableLayouts } from '../../changes/routing/table-layouts.js';
import { ValueFormats } from '../../changes/values/value-formats.js';
import type { PostgresAuthorizer } from '../../changes/visibility/evaluating/postgres-authorizer.js';
import type { Channel } from '../../channels/channel.js';
import type { Settings } from '../../config/settings-table.js';
import { TextFrames } from '../../connections/frame.js';
import type { Counters } from '../../metrics/counters.js';
import type { Database } from '../../postgres/connection/database.js';
import type { Subscriptions } from './subscriptions.js';
import type { Visibility } from './visibility.js';

export interface RoutingOptions {
  readonly settings: Pick<Settings, 'maxChangeSize'>;
  readonly database: Database;
  readonly visibility: Visibility;
  readonly subscriptions: Subscriptions;
  readonly messages: SqlMessages;
  /** Returns undefined if the channel no longer exists. */
  readonly channel: (name: string) => Channel | undefined;
  readonly counters: Counters;
}

/** Routers of live changes and of replays. There are two, so that neither waits for the other. */
export type Routing = ReturnType<typeof createRouting>;

export function createRouting(options: RoutingOptions) {
  const { settings, database, visibility, subscriptions, messages, channel, counters } = options;
  const { shared, personal } = subscriptions;
  const routerOf = (authorizer: PostgresAuthorizer) => {
    const formats = new ValueFormats(database);
    const frames = new TextFrames();
    return new BatchRouter({
      authorizer,
      personal,
      messages,
      layouts: new TableLayouts(authorizer, formats),
      formats,
      encoder: new ChangeEncoder((text) => frames.encode(text)),
      subscriptions: shared,
      channel,
      counters,
      maxChangeBytes: settings.maxChangeSize,
    });
  };
  return {
    live: routerOf(visibility.live),
    replay: routerOf(visibility.replay),
    newRecipients: () => new Recipients({ viewers: visibility.viewers, personal, subscriptions: shared }),
  };
}
