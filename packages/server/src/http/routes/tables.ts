import type { EnabledTable } from '../../changes/tables/table-registry.js';
import { type App, route } from '../route.js';
import {
  NewTrigger,
  TableDisabled,
  TableEnabled,
  TableList,
  TableParams,
  TableQuery,
} from '../row-change-schemas.js';
import { type ChangeRouteParts, type RowChangeParts, requireRowChanges } from './row-change-parts.js';

/** Enabling, disabling and listing the tables whose row changes are streamed. */
export function tableRoutes(app: App, parts: ChangeRouteParts): void {
  enableTable(app, parts);
  disableTable(app, parts);
  listTables(app, parts);
}

function enableTable(app: App, { rowChanges }: ChangeRouteParts): void {
  const facts = {
    access: 'server-admin',
    tag: 'Row changes',
    summary: 'Enable a table for row changes',
    needsPostgres: true,
    description:
      'Adds the table to the publication, sets REPLICA IDENTITY FULL (unless `identity` is `keep`) and grants SELECT to realtime_subscriber. Enabling an enabled table changes nothing.',
  } as const;
  app.post(
    '/realtime/triggers/:table',
    route(facts, { params: TableParams, querystring: TableQuery, body: NewTrigger }, { 200: TableEnabled }),
    async (request) => {
      const { table } = request.params;
      const { schema = 'public' } = request.query;
      const { warnings } = await requireRowChanges(rowChanges).tables.enable(schema, table, request.body);
      return { message: 'trigger setup successfully', table, ...(warnings.length > 0 ? { warnings } : {}) };
    },
  );
}

function disableTable(app: App, { rowChanges }: ChangeRouteParts): void {
  const facts = {
    access: 'server-admin',
    tag: 'Row changes',
    summary: 'Disable a table',
    needsPostgres: true,
    description:
      'Restores the settings that the table had before it was enabled. Subscriptions to it remain, and receive nothing.',
  } as const;
  app.delete(
    '/realtime/triggers/:table',
    route(facts, { params: TableParams, querystring: TableQuery }, { 200: TableDisabled }),
    async (request) => {
      const { table } = request.params;
      const { schema = 'public' } = request.query;
      await requireRowChanges(rowChanges).tables.disable(schema, table);
      return { message: 'trigger removed successfully', table };
    },
  );
}

function listTables(app: App, { rowChanges }: ChangeRouteParts): void {
  const facts = {
    access: 'server-admin',
    tag: 'Row changes',
    summary: 'List the enabled tables',
    needsPostgres: true,
  } as const;
  app.get('/realtime/triggers', route(facts, {}, { 200: TableList }), async () => {
    const changes = requireRowChanges(rowChanges);
    const triggers = [];
    for (const table of changes.tables.list()) triggers.push(await listedTable(table, changes));
    return { triggers, total: triggers.length };
  });
}

/** A table as the list shows it, with the tier of each role. */
async function listedTable(table: EnabledTable, changes: RowChangeParts) {
  return {
    table: table.name,
    schema: table.schema,
    source: changes.sourceKind,
    active: table.active,
    subscriptions: changes.subscriptions.byTable(table.oid).length,
    visibility: [...(await changes.tiers(table.oid))],
    created_at: table.enabledAt.toISOString(),
  };
}
