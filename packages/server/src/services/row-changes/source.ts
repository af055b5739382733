import type { TableRegistry } from '../../changes/tables/table-registry.js';
import type { Settings } from '../../config/settings-table.js';
import type { IdSource } from '../../lib/ids.js';
import type { Log } from '../../lib/log.js';
import { ChosenSource, type SourceChoice } from '../../postgres/choice/source-choice.js';
import { StaleSourceCleanup } from '../../postgres/choice/stale-source-cleanup.js';
import type { Database } from '../../postgres/connection/database.js';
import type { PreflightNames } from '../../postgres/preflight/preflight-facts.js';
import { ReplicationSource } from '../../postgres/replication/replication-source.js';
import { TriggerSource } from '../../postgres/triggers/trigger-source.js';

export interface SourceOptions {
  readonly settings: Settings;
  readonly databaseUrl: string;
  readonly database: Database;
  readonly choice: SourceChoice;
  readonly tables: Pick<TableRegistry, 'switchSource'>;
  readonly ids: IdSource;
  readonly log: Log;
}

const EPOCH_LENGTH = 8;

/**
 * Returns the names in PostgreSQL that preflight checks need. The schema is known once PostgreSQL has been
 * reached.
 */
export function preflightNames(settings: Settings, database: Pick<Database, 'schema'>): PreflightNames {
  return {
    slot: settings.replicationSlot,
    publication: settings.publicationName,
    schema: database.schema,
    dbRoles: settings.dbRoles,
    enableRls: settings.enableRls,
  };
}

/** Constructs the change source, and the clean-up of the stale one. */
export function createSource(options: SourceOptions): { source: ChosenSource; cleanup: StaleSourceCleanup } {
  const { settings, database, choice, tables, ids, log } = options;
  const common = {
    url: options.databaseUrl,
    database,
    window: { ms: settings.resumeWindow, bytes: settings.resumeWindowBytes },
    maxReconnectDelayMs: settings.maxReconnectDelay,
    newEpoch: () => ids.random(EPOCH_LENGTH),
    log,
  };
  const logical = new ReplicationSource({
    ...common,
    slot: settings.replicationSlot,
    publication: settings.publicationName,
    dbRoles: settings.dbRoles,
    enableRls: settings.enableRls,
    heartbeatMs: settings.heartbeatInterval,
    walLimitAction: settings.walLimitAction,
  });
  const trigger = new TriggerSource({
    ...common,
    names: () => preflightNames(settings, database),
    prepareTables: () => tables.switchSource('trigger'),
  });
  const cleanup = new StaleSourceCleanup({
    database,
    slot: settings.replicationSlot,
    dropTriggers: () => tables.switchSource('logical'),
    log,
  });
  const cleanUp = cleanup.cleanUp.bind(cleanup);
  return { source: new ChosenSource({ choice, logical, trigger, cleanUp, log }), cleanup };
}
