import { ReplacedClaims } from '../../changes/model/replaced-claims.js';
import { Viewers } from '../../changes/model/viewer.js';
import { checkCondition } from '../../changes/visibility/check-condition.js';
import { EvaluationErrorLog } from '../../changes/visibility/evaluating/evaluation-error-log.js';
import { PostgresAuthorizer } from '../../changes/visibility/evaluating/postgres-authorizer.js';
import { SlowEvaluationLog } from '../../changes/visibility/evaluating/slow-evaluation-log.js';
import type { Settings } from '../../config/settings-table.js';
import type { Clock } from '../../lib/clock.js';
import type { Log } from '../../lib/log.js';
import type { Counters } from '../../metrics/counters.js';
import type { SourceKind } from '../../postgres/choice/source-choice.js';
import type { Database } from '../../postgres/connection/database.js';
import { hasOurTriggers } from '../../postgres/preflight/trigger-checks.js';
import { isPublishedCondition } from '../../postgres/replication/slot.js';
import { DatabaseTextReader } from '../../postgres/sql/read-database-text.js';

export interface VisibilityOptions {
  readonly settings: Pick<Settings, 'claimSettings' | 'dbRoles' | 'enableRls' | 'publicationName'>;
  readonly database: Database;
  readonly sourceKind: () => SourceKind;
  readonly counters: Counters;
  readonly clock: Clock;
  readonly log: Log;
}

/** Row level security: viewers, and the authorizers that evaluate policies and conditions for them. */
export type Visibility = ReturnType<typeof createVisibility>;

export function createVisibility(options: VisibilityOptions) {
  const { settings, database, sourceKind, counters, clock, log } = options;
  const { enableRls, dbRoles, publicationName } = settings;
  const isStreamed = () =>
    sourceKind() === 'trigger' ? hasOurTriggers(database.schema) : isPublishedCondition(publicationName);
  const errorLog = new EvaluationErrorLog(log, clock);
  const slowLog = new SlowEvaluationLog(log, clock, (table) => counters.evaluatedSlowly(table));
  const evaluation = { database, enableRls, clock, errorLog, slowLog };
  const live = new PostgresAuthorizer({
    ...evaluation,
    sessions: database.pool('evaluation'),
    conditionSessions: database.pool('conditions'),
    isStreamed,
  });
  const replaced = new ReplacedClaims(log, counters);
  const viewers = new Viewers(dbRoles, settings.claimSettings, (claims) => replaced.report(claims));
  const texts = new DatabaseTextReader();
  return {
    viewers,
    /** Reads which texts the database can hold. Returns whether viewers may now differ. */
    loadText: async () => viewers.use(await texts.read(database)),
    live,
    /** For replays and explanations, with a session of its own, so that live changes do not wait for them. */
    replay: new PostgresAuthorizer({ ...evaluation, sessions: database.pool('replays') }, live),
    errorLog,
    checkCondition: checkCondition.bind(undefined, database.pool('conditions')),
  };
}
