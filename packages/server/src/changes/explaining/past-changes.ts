import { ProtocolError } from '@goforward/realtime-protocol';
import { readChange } from '../../postgres/replication/pgoutput.js';
import type { ResumeLog } from '../log/resume-log.js';
import { comparePositions, parseCursor } from '../model/position.js';
import type { RowImage } from '../model/row-image.js';
import type { TableFacts } from '../model/table-facts.js';
import type { TableLayouts } from '../routing/table-layouts.js';
import type { Authorizer } from '../visibility/authorizer.js';

export interface PastChangesParts {
  readonly resumeLog: Pick<ResumeLog, 'read'>;
  readonly authorizer: Pick<Authorizer, 'current'>;
  readonly layouts: TableLayouts;
  /** The change epoch that is delivered at present. */
  readonly epoch: () => string;
}

/** A delivered change, its row versions in the order of the catalog's columns. */
export interface PastChange {
  readonly facts: TableFacts;
  readonly kind: 'insert' | 'update' | 'delete' | 'truncate';
  readonly old: RowImage | undefined;
  readonly new: RowImage | undefined;
}

/** Finds changes in the resume window by the cursors of their messages. */
export class PastChanges {
  readonly #parts: PastChangesParts;

  constructor(parts: PastChangesParts) {
    this.#parts = parts;
  }

  /** Returns the change at a cursor. Throws VALIDATION_FAILED if there is none. */
  async find(text: string): Promise<PastChange> {
    const { resumeLog, authorizer, layouts, epoch } = this.#parts;
    const cursor = parseCursor(text);
    if (cursor === undefined) throw invalid('is not a cursor');
    if (cursor.epoch !== epoch()) throw invalid('is of another change epoch');
    const { position } = cursor;
    const { commitLsn, index } = position;
    const page = await resumeLog.read({ commitLsn, index: index - 1 });
    const change = page?.changes.find(
      (found) =>
        comparePositions({ commitLsn: found.transaction.commitLsn, index: found.index }, position) === 0,
    );
    if (change === undefined) throw invalid('no change in the resume window has this cursor');
    if (change.kind === 'message') throw invalid('is of an SQL message, which policies do not apply to');
    await authorizer.current(change.relation.oid);
    const layout = await layouts.of(change.relation);
    if (layout === undefined) throw invalid('is of a change of a table that has been dropped');
    const { facts } = layout;
    if (change.kind === 'truncate') return { facts, kind: 'truncate', old: undefined, new: undefined };
    const read = readChange(change.bytes, change.relation, change.start, change.end);
    const image = (version: RowImage | undefined) =>
      version === undefined ? undefined : layout.inCatalogOrder(version);
    return { facts, kind: change.kind, old: image(read.old), new: image(read.new) };
  }
}

function invalid(problem: string): ProtocolError {
  return new ProtocolError('VALIDATION_FAILED', { details: `at: ${problem}`, fields: { field: 'at' } });
}
