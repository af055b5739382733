import { Explainer } from '../../changes/explaining/explainer.js';
import { PastChanges } from '../../changes/explaining/past-changes.js';
import type { ResumeLog } from '../../changes/log/resume-log.js';
import { TableLayouts } from '../../changes/routing/table-layouts.js';
import type { TableRegistry } from '../../changes/tables/table-registry.js';
import { ValueFormats } from '../../changes/values/value-formats.js';
import type { Database } from '../../postgres/connection/database.js';
import type { Visibility } from './visibility.js';

export interface ExplainingOptions {
  readonly database: Database;
  readonly visibility: Visibility;
  readonly tables: TableRegistry;
  readonly resumeLog: ResumeLog;
  readonly epoch: () => string;
}

/** Constructs the explainer. It shares the pool and the session of replays, so that live changes do not wait for it. */
export function createExplainer({
  database,
  visibility,
  tables,
  resumeLog,
  epoch,
}: ExplainingOptions): Explainer {
  const authorizer = visibility.replay;
  const layouts = new TableLayouts(authorizer, new ValueFormats(database));
  return new Explainer({
    database: database.pool('replays'),
    authorizer,
    viewers: visibility.viewers,
    past: new PastChanges({ resumeLog, authorizer, layouts, epoch }),
    inspect: (schema, table) => tables.inspect(schema, table),
    reachability: (oid) => tables.reachability(oid),
    checkCondition: visibility.checkCondition,
  });
}
