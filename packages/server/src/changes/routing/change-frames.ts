import type { ChangeEvent } from '@goforward/realtime-protocol';
import type { RowImage } from '../model/row-image.js';
import type { Subscription } from '../subscriptions/subscription.js';
import type { RolePrivileges } from '../visibility/role-privileges.js';
import type { ChangeEncoder } from './change-encoder.js';
import type { DecodedChange } from './table-batch.js';
import type { ColumnSelection, TableLayout } from './table-layout.js';
import type { VisibleChange } from './visible-change.js';

const EVENTS = {
  insert: 'INSERT',
  update: 'UPDATE',
  delete: 'DELETE',
  truncate: 'TRUNCATE',
} as const satisfies Record<string, ChangeEvent>;

/** The columns and subscription ids of a message, for one role and one set of matching subscriptions. */
interface MessageShape {
  readonly columns: ColumnSelection;
  /** The key columns: all that is sent of the old version when a row is no longer visible. */
  readonly key: ColumnSelection;
  /** The ids as a JSON array. */
  readonly ids: string;
}

/** Why a `gap` is sent in place of a change. */
const TOO_LARGE = 'a change is too large to send';

/** The messages of a change. Most changes have one; the others are found by shape and visible part. */
interface EncodedFrames {
  readonly shape: MessageShape;
  readonly visibleChange: VisibleChange;
  readonly frame: Buffer;
  others: Map<string, Buffer> | undefined;
}

/**
 * Encodes the changes of one table in a batch, and a `gap` in place of one that is too large. A message is encoded once
 * for each set of subscriptions and visible columns, however many members get it.
 */
export class ChangeFrames {
  readonly #epoch: string;
  readonly #layout: TableLayout;
  readonly #encoder: ChangeEncoder;
  readonly #maxBytes: number;
  readonly #gaps = new Set<Buffer>();
  readonly #shapes = new Map<RolePrivileges, Map<readonly Subscription[], MessageShape>>();
  readonly #framesByChange = new Map<DecodedChange, EncodedFrames>();

  /** `maxBytes`: the size of the largest message. */
  constructor(epoch: string, layout: TableLayout, encoder: ChangeEncoder, maxBytes: number) {
    this.#epoch = epoch;
    this.#layout = layout;
    this.#encoder = encoder;
    this.#maxBytes = maxBytes;
  }

  /** How many changes were too large, counted once for each message that was not sent. */
  get gapCount(): number {
    return this.#gaps.size;
  }

  /** Whether a frame is a `gap`. */
  isGap(frame: Buffer): boolean {
    return this.#gaps.has(frame);
  }

  frame(change: DecodedChange, visibleChange: VisibleChange, privileges: RolePrivileges): Buffer {
    const shape = this.#shapeOf(visibleChange.subscriptions, privileges);
    const first = this.#framesByChange.get(change);
    if (first === undefined) {
      const frame = this.#encode(change, visibleChange, shape);
      this.#framesByChange.set(change, { shape, visibleChange, frame, others: undefined });
      return frame;
    }
    if (first.shape === shape && isEqual(first.visibleChange, visibleChange)) return first.frame;
    first.others ??= new Map([[keyOf(first.shape, first.visibleChange), first.frame]]);
    const key = keyOf(shape, visibleChange);
    const frame = first.others.get(key) ?? this.#encode(change, visibleChange, shape);
    first.others.set(key, frame);
    return frame;
  }

  #encode(change: DecodedChange, visibleChange: VisibleChange, { columns, key, ids }: MessageShape): Buffer {
    const { transaction, index, relation, kind } = change.streamed;
    const { showsOld, showsNew, visibility } = visibleChange;
    const header = { epoch: this.#epoch, transaction, index, relation, event: EVENTS[kind] };
    const oldColumns = visibility === 'lost' ? key : columns;
    const old = showsOld ? change.old : undefined;
    const now = showsNew ? change.new : undefined;
    if (!isUndecided(change, visibleChange) && !this.#isTooLarge(change, old, oldColumns, now, columns)) {
      const unchanged = now === undefined ? [] : this.#layout.unknownColumns(now, columns);
      const frame = this.#encoder.encode(header, {
        oldRecord: old === undefined ? null : oldColumns.writer.json(old),
        newRecord: now === undefined ? null : columns.writer.json(now),
        ...(visibility === undefined ? {} : { visibility }),
        unchangedColumns: unchanged.length === 0 ? '' : JSON.stringify(unchanged),
        subscriptionIds: ids,
      });
      if (frame.length <= this.#maxBytes) return frame;
    }
    const gap = this.#encoder.encodeGap(header, TOO_LARGE, ids);
    this.#gaps.add(gap);
    return gap;
  }

  /** Whether a message is certainly too large, by the values in it. Escapes can make it larger than they are. */
  #isTooLarge(
    { streamed, tooLarge }: DecodedChange,
    old: RowImage | undefined,
    oldColumns: ColumnSelection,
    now: RowImage | undefined,
    columns: ColumnSelection,
  ): boolean {
    if (streamed.kind === 'truncate') return false;
    // A value can be in a message twice, but is once in the WAL if it did not change.
    if (2 * (streamed.end - streamed.start) <= this.#maxBytes) return false;
    if (old !== undefined && oldColumns.indexes.some((index) => tooLarge?.old.has(index))) return true;
    if (now !== undefined && columns.indexes.some((index) => tooLarge?.new.has(index))) return true;
    return sizeOf(old, oldColumns) + sizeOf(now, columns) > this.#maxBytes;
  }

  /** Several matching subscriptions share one message, with the union of their columns. */
  #shapeOf(subscriptions: readonly Subscription[], privileges: RolePrivileges): MessageShape {
    let shapes = this.#shapes.get(privileges);
    if (shapes === undefined) {
      shapes = new Map();
      this.#shapes.set(privileges, shapes);
    }
    let shape = shapes.get(subscriptions);
    if (shape === undefined) {
      const { primaryKey } = this.#layout.facts;
      const names = subscriptions.some(({ filter }) => filter.columns === undefined)
        ? undefined
        : new Set(subscriptions.flatMap(({ filter }) => filter.columns ?? []));
      const columns = this.#layout.selectColumns(names, privileges);
      shape = {
        columns,
        key: primaryKey.length === 0 ? columns : this.#layout.selectColumns(new Set(primaryKey), privileges),
        ids: JSON.stringify(subscriptions.map(({ id }) => id)),
      };
      shapes.set(subscriptions, shape);
    }
    return shape;
  }
}

function keyOf({ columns, ids }: MessageShape, { visibility, showsOld }: VisibleChange): string {
  return `${columns.key}|${ids}|${visibility ?? ''}${showsOld}`;
}

function isEqual(a: VisibleChange, b: VisibleChange): boolean {
  return a.visibility === b.visibility && a.showsOld === b.showsOld;
}

/** Whether a condition is taken for true because it reads a value that is too large. */
function isUndecided({ streamed, tooLarge }: DecodedChange, { subscriptions }: VisibleChange): boolean {
  if (tooLarge === undefined || streamed.kind === 'truncate') return false;
  const { columns } = streamed.relation;
  const names = new Set([...tooLarge.old, ...tooLarge.new].map((index) => columns[index]?.name));
  return subscriptions.some(({ condition }) => condition?.columns.some((name) => names.has(name)) === true);
}

/** Returns the number of characters of the selected values. */
function sizeOf(image: RowImage | undefined, { indexes }: ColumnSelection): number {
  if (image === undefined) return 0;
  return indexes.reduce((sum, index) => sum + (image[index]?.length ?? 0), 0);
}
