import type { ChangeEvent } from '@goforward/realtime-protocol';
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

/** The messages of a change. Most changes have one; the others are found by shape and visible part. */
interface EncodedFrames {
  readonly shape: MessageShape;
  readonly visibleChange: VisibleChange;
  readonly frame: Buffer;
  others: Map<string, Buffer> | undefined;
}

/**
 * Encodes the changes of one table in a batch. A message is encoded once for each set of subscriptions and
 * visible columns, however many members get it.
 */
export class ChangeFrames {
  readonly #epoch: string;
  readonly #layout: TableLayout;
  readonly #encoder: ChangeEncoder;
  readonly #shapes = new Map<RolePrivileges, Map<readonly Subscription[], MessageShape>>();
  readonly #framesByChange = new Map<DecodedChange, EncodedFrames>();

  constructor(epoch: string, layout: TableLayout, encoder: ChangeEncoder) {
    this.#epoch = epoch;
    this.#layout = layout;
    this.#encoder = encoder;
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
    const old = showsOld ? change.old : undefined;
    const now = showsNew ? change.new : undefined;
    const unchanged = now === undefined ? [] : this.#layout.unknownColumns(now, columns);
    return this.#encoder.encode(
      { epoch: this.#epoch, transaction, index, relation, event: EVENTS[kind] },
      {
        oldRecord: old === undefined ? null : (visibility === 'lost' ? key : columns).writer.json(old),
        newRecord: now === undefined ? null : columns.writer.json(now),
        ...(visibility === undefined ? {} : { visibility }),
        unchangedColumns: unchanged.length === 0 ? '' : JSON.stringify(unchanged),
        subscriptionIds: ids,
      },
    );
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
