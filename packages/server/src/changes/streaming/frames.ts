import type { ChangeEvent } from '@goforward/realtime-protocol';
import type { Subscription } from '../subscriptions/subscription.js';
import type { RoleRights } from '../table-facts.js';
import type { ChangeEncoder } from './change-encoder.js';
import type { DecodedChange } from './decoded-change.js';
import type { Outcome } from './outcome.js';
import type { ColumnChoice, TableView } from './table-view.js';

const EVENTS = {
  insert: 'INSERT',
  update: 'UPDATE',
  delete: 'DELETE',
  truncate: 'TRUNCATE',
} as const satisfies Record<string, ChangeEvent>;

/** What a role gets of the changes that a set of subscriptions wants. */
interface Cut {
  readonly columns: ColumnChoice;
  /** What is left of the old version of a row that goes out of view. */
  readonly key: ColumnChoice;
  /** The ids as a JSON array. */
  readonly ids: string;
}

/**
 * The messages of the changes of one batch. A message is made once for each set of subscriptions and visible
 * columns, however many members get it.
 */
export class Frames {
  readonly #epoch: string;
  readonly #view: TableView;
  readonly #encoder: ChangeEncoder;
  readonly #cuts = new Map<RoleRights, Map<readonly Subscription[], Cut>>();
  readonly #made = new Map<DecodedChange, Map<string, Buffer>>();

  constructor(epoch: string, view: TableView, encoder: ChangeEncoder) {
    this.#epoch = epoch;
    this.#view = view;
    this.#encoder = encoder;
  }

  frame(change: DecodedChange, outcome: Outcome, rights: RoleRights): Buffer {
    const cut = this.#cut(outcome.subscriptions, rights);
    const key = `${cut.columns.key}|${cut.ids}|${outcome.visibility ?? ''}${outcome.showsOld}`;
    let frames = this.#made.get(change);
    if (frames === undefined) {
      frames = new Map();
      this.#made.set(change, frames);
    }
    let frame = frames.get(key);
    if (frame === undefined) {
      frame = this.#encode(change, outcome, cut);
      frames.set(key, frame);
    }
    return frame;
  }

  #encode(change: DecodedChange, outcome: Outcome, { columns, key, ids }: Cut): Buffer {
    const { transaction, index, relation, kind } = change.streamed;
    const { showsOld, showsNew, visibility } = outcome;
    const old = showsOld ? change.old : undefined;
    const now = showsNew ? change.new : undefined;
    const unchanged = now === undefined ? [] : this.#view.unknownIn(now, columns);
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

  /** Several subscriptions that match make one message: its columns are their union. */
  #cut(subscriptions: readonly Subscription[], rights: RoleRights): Cut {
    let cuts = this.#cuts.get(rights);
    if (cuts === undefined) {
      cuts = new Map();
      this.#cuts.set(rights, cuts);
    }
    let cut = cuts.get(subscriptions);
    if (cut === undefined) {
      const { primaryKey } = this.#view.facts;
      const names = subscriptions.some(({ filter }) => filter.columns === undefined)
        ? undefined
        : new Set(subscriptions.flatMap(({ filter }) => filter.columns ?? []));
      const columns = this.#view.choice(names, rights);
      cut = {
        columns,
        key: primaryKey.length === 0 ? columns : this.#view.choice(new Set(primaryKey), rights),
        ids: JSON.stringify(subscriptions.map(({ id }) => id)),
      };
      cuts.set(subscriptions, cut);
    }
    return cut;
  }
}
