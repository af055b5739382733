import type { StreamState, StreamStateStore } from '../source/stream-state-store.js';
import type { Sql } from '../sql/sql.js';
import type { Outbox, OutboxBatch } from './outbox.js';

/** The position at which the first epoch starts. Not 0, so that there is a position before it. */
const FIRST_POSITION = 1n;

/**
 * Decides whether the stored change epoch continues. If not, empties the outbox and starts a new epoch, with
 * the reason of the gap. `gapReason`: why the reader knows that changes were lost; undefined if it does not.
 */
export async function outboxContinuation(
  sql: Sql,
  store: Pick<StreamStateStore, 'read'>,
  outbox: Outbox,
  newEpoch: () => string,
  gapReason: string | undefined,
): Promise<{ readonly state: StreamState; readonly gap?: string }> {
  const [system] = await sql.query<{ id: string; timeline: number }>(
    `SELECT (SELECT system_identifier::text FROM pg_control_system()) AS id, (SELECT timeline_id FROM pg_control_checkpoint()) AS timeline`,
  );
  const { id: systemId, timeline } = system ?? { id: '', timeline: 0 };
  const stored = await store.read();
  const last = (await outbox.batches()).at(-1);
  const gap = stored && (gapOf(stored, last, systemId, timeline) ?? gapReason);
  if (stored !== undefined && gap === undefined) return { state: stored };
  const acknowledged = stored?.acknowledged ?? FIRST_POSITION;
  const position = last === undefined || last.end < acknowledged ? acknowledged : last.end;
  await outbox.clear(position);
  const state = {
    epoch: newEpoch(),
    generation: (stored?.generation ?? 0) + 1,
    systemId,
    timeline,
    acknowledged: position,
    publication: null,
    memo: {},
  };
  return { state, ...(gap === undefined ? {} : { gap }) };
}

function gapOf(
  stored: StreamState,
  last: OutboxBatch | undefined,
  systemId: string,
  timeline: number,
): string | undefined {
  if (stored.systemId !== systemId) return 'the database cluster was replaced';
  if (stored.timeline !== timeline) return 'the database was restored or failed over';
  if (last === undefined || last.end < stored.acknowledged) return 'the outbox was emptied';
  return undefined;
}
