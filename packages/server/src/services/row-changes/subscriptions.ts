import { ChangeCounts } from '../../changes/subscriptions/change-counts.js';
import { PersonalSubscriptions } from '../../changes/subscriptions/personal-subscriptions.js';
import { PostgresSubscriptionStore } from '../../changes/subscriptions/postgres-subscription-store.js';
import { SubscriptionCheck } from '../../changes/subscriptions/subscription-check.js';
import { SubscriptionRegistry } from '../../changes/subscriptions/subscription-registry.js';
import { AllowedTables } from '../../changes/tables/allowed-tables.js';
import { TableRegistry } from '../../changes/tables/table-registry.js';
import type { Settings } from '../../config/settings-table.js';
import type { WallClock } from '../../lib/clock.js';
import type { Log } from '../../lib/log.js';
import type { SourceChoice } from '../../postgres/choice/source-choice.js';
import type { Database } from '../../postgres/connection/database.js';
import type { Visibility } from './visibility.js';

export interface SubscriptionOptions {
  readonly settings: Pick<
    Settings,
    'publicationName' | 'filterTables' | 'excludeTables' | 'dbRoles' | 'enableRls'
  >;
  readonly database: Database;
  readonly choice: SourceChoice;
  readonly visibility: Visibility;
  readonly wallClock: WallClock;
  readonly log: Log;
}

/** The enabled tables, and the subscriptions of channels and of single connections to them. */
export type Subscriptions = ReturnType<typeof createSubscriptions>;

export function createSubscriptions(options: SubscriptionOptions) {
  const { settings, database, choice, visibility, wallClock, log } = options;
  const filter = new AllowedTables(settings.filterTables, settings.excludeTables);
  const tables = new TableRegistry(database, settings.publicationName, filter, choice, settings);
  const preparation = new SubscriptionCheck({
    tables,
    authorizer: visibility.live,
    checkCondition: visibility.checkCondition,
  });
  const counts = new ChangeCounts(wallClock);
  const store = new PostgresSubscriptionStore(database);
  const shared = new SubscriptionRegistry({ store, preparation, counts, wallClock, log });
  const personal = new PersonalSubscriptions();
  return {
    tables,
    preparation,
    counts,
    /** Subscriptions of channels. */
    shared,
    /** Subscriptions of single connections. */
    personal,
    /** Returns whether a channel or a connection is subscribed to the table. */
    isSubscribed: (oid: number) => shared.isSubscribed(oid) || personal.isSubscribed(oid),
  };
}
