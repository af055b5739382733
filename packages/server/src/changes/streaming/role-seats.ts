import type { Subscriber } from '../../channels/subscriber.js';
import type { Folded } from '../authorizer.js';
import type { Compiled, ListEntry } from '../compiling/compiled-expression.js';
import { ContextIndex } from '../compiling/context-index.js';
import { changeList, emptyList, type Test, testOf, type ValueList } from '../compiling/predicate.js';
import type { RowContext } from '../row-context.js';
import { type ChangeBatch, type DecodedChange, NO_ROW } from './decoded-change.js';
import { comparePositions, type Position } from './position.js';
import type { Listener, Place, Seat } from './seat.js';

/** What a policy's slots hold for contexts; undefined for one that PostgreSQL has to judge. */
export type Fold = (contexts: readonly RowContext[]) => Promise<readonly (Folded | undefined)[]>;

/** A list in a policy that is read from another table, of which it is kept as the log tells of that. */
interface MemberList {
  readonly oid: number;
  /** Whom a row of the table concerns; undefined: everybody. */
  readonly index: ContextIndex<Listener> | undefined;
  /** Missing: where such a row changes, the list is read anew. */
  readonly entry: (ListEntry & { readonly test: Test }) | undefined;
  /** The last change of the table that the lists are up to. */
  upTo: Position | undefined;
}

/** Whom an index of compiled policies finds, and who is beyond it. */
interface Indexed {
  readonly judging: Compiled;
  readonly index: ContextIndex<Listener>;
  /** What their context's settings come to is not known yet. */
  readonly waiting: Set<Listener>;
  /** PostgreSQL judges them. */
  readonly beyond: Set<Listener>;
  /** What is known of those in the index. */
  readonly known: Map<Listener, Folded>;
  readonly memberships: readonly MemberList[];
  /** How often something became doubtful that was read from tables. */
  doubts: number;
}

/** Who may hear of one table as one database role. */
export class RoleSeats {
  /** By the context's key. */
  readonly listeners = new Map<string, Listener>();
  /** By the channel's name: those that its members share, and those of members with subscriptions of their own. */
  readonly common = new Map<string, Set<Seat>>();
  readonly own = new Map<string, Set<Seat>>();
  readonly owners = new Map<Subscriber, Seat>();
  #indexed: Indexed | undefined;

  add(seat: Seat): void {
    const { context, channel, owner } = seat;
    let listener = this.listeners.get(context.key);
    if (listener === undefined) {
      listener = { context, seats: new Set() };
      this.listeners.set(context.key, listener);
      this.#indexed?.waiting.add(listener);
    }
    listener.seats.add(seat);
    const channels = owner === undefined ? this.common : this.own;
    const others = channels.get(channel.name);
    if (others === undefined) channels.set(channel.name, new Set([seat]));
    else others.add(seat);
    if (owner !== undefined) this.owners.set(owner, seat);
  }

  remove(seat: Seat): void {
    const { context, channel, owner } = seat;
    const channels = owner === undefined ? this.common : this.own;
    const others = channels.get(channel.name);
    others?.delete(seat);
    if (others?.size === 0) channels.delete(channel.name);
    if (owner !== undefined) this.owners.delete(owner);
    const listener = this.listeners.get(context.key);
    listener?.seats.delete(seat);
    if (listener === undefined || listener.seats.size > 0) return;
    this.listeners.delete(context.key);
    this.#leave(listener);
    this.#indexed?.waiting.delete(listener);
  }

  /** Rows of a table have changed that memberships may be read from: the lists of whom they concern are others. */
  changed(oid: number, batch: ChangeBatch): void {
    const indexed = this.#indexed;
    if (indexed === undefined) return;
    for (const list of indexed.memberships) {
      if (list.oid !== oid) continue;
      // What is being read meanwhile may be of before.
      indexed.doubts += 1;
      if (list.entry !== undefined) this.#follow(indexed, list, list.entry, batch);
      else this.#doubtAll(list, batch, batch.changes);
    }
  }

  /** Whether lists are kept up to date by the changes of a table, one after the other. */
  follows(oid: number): boolean {
    return this.#indexed?.memberships.some((list) => list.oid === oid && list.entry !== undefined) === true;
  }

  /** Whether memberships are read from a table. */
  reads(oid: number): boolean {
    return this.#indexed?.memberships.some((list) => list.oid === oid) === true;
  }

  /** Memberships may have changed without a word. */
  distrust(): void {
    if (this.#indexed === undefined || this.#indexed.memberships.length === 0) return;
    this.#indexed.doubts += 1;
    for (const list of this.#indexed.memberships) list.upTo = undefined;
    for (const listener of this.listeners.values()) this.#doubt(listener);
  }

  /** Takes over what changes did to a list, for those who read it before that. */
  #follow(
    indexed: Indexed,
    list: MemberList,
    entry: NonNullable<MemberList['entry']>,
    batch: ChangeBatch,
  ): void {
    for (const change of batch.changes) {
      const { streamed, oldRow, newRow } = change;
      const { transaction, index } = streamed;
      const position = { commitLsn: transaction.commitLsn, index };
      // A slice that could not be judged comes again.
      if (list.upTo !== undefined && comparePositions(position, list.upTo) <= 0) continue;
      list.upTo = position;
      const isUnknown = streamed.kind !== 'truncate' && streamed.kind !== 'insert' && oldRow === NO_ROW;
      if (isUnknown || ![oldRow, newRow].every((row) => row === NO_ROW || batch.isWhole(row))) {
        this.#doubtAll(list, batch, [change]);
        continue;
      }
      if (streamed.kind === 'truncate') {
        for (const [listener, own] of indexed.known)
          if (!own.asOf.sees(transaction.xid))
            this.#relist(indexed, listener, own, () => emptyList(listAt(own, entry)));
        continue;
      }
      for (const [row, by] of [
        [oldRow, -1],
        [newRow, 1],
      ] as const) {
        if (row === NO_ROW) continue;
        const exact = batch.exact(row);
        for (const listener of list.index?.find(exact) ?? indexed.known.keys()) {
          const own = indexed.known.get(listener);
          if (own === undefined || own.asOf.sees(transaction.xid) || entry.test(exact, own.slots) !== true)
            continue;
          const value = exact.value(entry.place, entry.family);
          this.#relist(indexed, listener, own, () => changeList(listAt(own, entry), value, by));
        }
      }
    }
  }

  /** The index finds a listener by its lists: it is not there while one becomes another. */
  #relist({ index }: Indexed, listener: Listener, { slots }: Folded, change: () => void): void {
    index.remove(listener);
    change();
    index.add(listener, slots);
  }

  /** Reads the lists anew of whom changes concern. */
  #doubtAll(list: MemberList, batch: ChangeBatch, changes: readonly DecodedChange[]): void {
    for (const listener of listenersOf(list, batch, changes) ?? this.listeners.values())
      this.#doubt(listener);
  }

  #doubt(listener: Listener): void {
    this.#leave(listener);
    this.#indexed?.waiting.add(listener);
  }

  #leave(listener: Listener): void {
    this.#indexed?.index.remove(listener);
    this.#indexed?.known.delete(listener);
    this.#indexed?.beyond.delete(listener);
    for (const { index } of this.#indexed?.memberships ?? []) index?.remove(listener);
  }

  /** Whether there are any seats that a place is about. */
  hasAny(place: Place): boolean {
    if (typeof place === 'string') return this.common.has(place) || this.own.has(place);
    return this.owners.has(place);
  }

  /** The seats that a place is about: of a channel by its name, or of a connection. */
  at(place: Place): Iterable<Seat> {
    if (typeof place === 'string') return [...(this.common.get(place) ?? []), ...(this.own.get(place) ?? [])];
    const seat = this.owners.get(place);
    return seat === undefined ? [] : [seat];
  }

  /** The index of everybody for these policies: made anew where they are others, else only who has come since is added. */
  async indexed(judging: Compiled, fold: Fold): Promise<Indexed> {
    const indexed = this.#indexOf(judging);
    await this.#add(indexed, [...indexed.waiting], fold);
    return indexed;
  }

  /** As `indexed` for some of those who have come since, ahead of the next change; false: there are none. */
  async prepare(judging: Compiled, fold: Fold, count: number): Promise<boolean> {
    const indexed = this.#indexOf(judging);
    const coming = [...indexed.waiting].slice(0, count);
    await this.#add(indexed, coming, fold);
    return coming.length > 0;
  }

  #indexOf(judging: Compiled): Indexed {
    if (this.#indexed?.judging === judging) return this.#indexed;
    const { predicate, memberships } = judging.compiled;
    this.#indexed = {
      judging,
      index: new ContextIndex<Listener>(predicate),
      waiting: new Set(this.listeners.values()),
      beyond: new Set(),
      known: new Map(),
      memberships: memberships.map(({ oid, concerns, entry }) => ({
        oid,
        index: concerns === undefined ? undefined : new ContextIndex<Listener>(concerns),
        entry: entry === undefined ? undefined : { ...entry, test: testOf(entry.predicate) },
        upTo: undefined,
      })),
      doubts: 0,
    };
    return this.#indexed;
  }

  async #add(indexed: Indexed, coming: readonly Listener[], fold: Fold): Promise<void> {
    if (coming.length === 0) return;
    const { doubts } = indexed;
    const folded = await fold(coming.map(({ context }) => context));
    // What was read may be of before what is in doubt since.
    if (indexed.doubts !== doubts) return;
    for (const [n, listener] of coming.entries()) {
      // It has left meanwhile, or was added beside us.
      if (!indexed.waiting.delete(listener)) continue;
      const own = folded[n];
      if (own === undefined) {
        indexed.beyond.add(listener);
        continue;
      }
      indexed.known.set(listener, own);
      for (const index of [indexed.index, ...indexed.memberships.map((list) => list.index)])
        index?.add(listener, own.slots);
    }
  }
}

/** Whom one of the changes concerns; undefined: everybody. */
function listenersOf(
  { index }: MemberList,
  batch: ChangeBatch,
  changes: readonly DecodedChange[],
): Set<Listener> | undefined {
  if (index === undefined) return undefined;
  const found = new Set<Listener>();
  for (const { streamed, oldRow, newRow } of changes) {
    // Nothing is known of the rows of a TRUNCATE, and of an old version that the log does not have.
    if (streamed.kind === 'truncate' || (streamed.kind !== 'insert' && oldRow === NO_ROW)) return undefined;
    for (const row of [oldRow, newRow]) {
      if (row === NO_ROW) continue;
      if (!index.columns.every((place) => batch.knows(row, [place]))) return undefined;
      for (const listener of index.find(batch.exact(row))) found.add(listener);
    }
  }
  return found;
}

function listAt({ slots }: Folded, { slot }: ListEntry): ValueList {
  return slots[slot] as ValueList;
}
