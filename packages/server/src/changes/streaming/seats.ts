import type { Channel } from '../../channels/channel.js';
import type { Subscriber } from '../../channels/subscriber.js';
import type { Compiled } from '../compiling/compiled-expression.js';
import { ContextIndex } from '../compiling/context-index.js';
import type { Slot } from '../compiling/predicate.js';
import type { PersonalSubscriptions } from '../personal/personal-subscriptions.js';
import type { RowContext, RowContexts } from '../row-context.js';
import type { Subscription } from '../subscriptions/subscription.js';
import { type ChangeBatch, NO_ROW } from './decoded-change.js';

/** The members of one channel with one context: they get the same. One with subscriptions of its own sits alone. */
export interface Seat {
  /** Among those of the channel. */
  readonly key: string;
  readonly channel: Channel;
  readonly context: RowContext;
  readonly owner: Subscriber | undefined;
  readonly members: Set<Subscriber>;
}

/** Whom a subscription is for: a channel by its name, or one connection. */
export type Place = string | Subscriber;

/** One context, and its seats that may hear of a table. */
export interface Listener {
  readonly context: RowContext;
  readonly seats: Set<Seat>;
}

export interface SeatsParts {
  readonly contexts: RowContexts;
  readonly personal: Pick<PersonalSubscriptions, 'isOwner' | 'byTable'>;
  readonly subscriptions: { byTable(oid: number): readonly Subscription[] };
}

/** What a policy's slots hold for contexts; undefined for one that PostgreSQL has to judge. */
export type Fold = (contexts: readonly RowContext[]) => Promise<readonly (readonly Slot[] | undefined)[]>;

/** A table's listeners, and for whom channels are subscribed to it. */
interface KnownTable {
  readonly seats: TableSeats;
  shared: readonly Subscription[];
  channels: ReadonlySet<string>;
}

/**
 * Where the members of channels sit, kept as they come and go: nothing is gone through for a change that is not for
 * them. While changes are handed out everybody keeps their seat; who comes, goes or moves meanwhile does so after that.
 */
export class Seats {
  readonly #parts: SeatsParts;
  readonly #channels = new Map<Channel, Map<string, Seat>>();
  readonly #ofMember = new Map<Subscriber, Seat>();
  readonly #tables = new Map<number, KnownTable>();
  #waiting: (() => void)[] | undefined;

  constructor(parts: SeatsParts) {
    this.#parts = parts;
  }

  join(member: Subscriber, channel: Channel): void {
    this.#when(() => this.#sit(member, channel));
  }

  leave(member: Subscriber): void {
    this.#when(() => this.#rise(member));
  }

  /** The member has subscriptions of its own that it had not, or no more, or is somebody else. */
  move(member: Subscriber): void {
    this.#when(() => {
      const channel = this.#ofMember.get(member)?.channel;
      this.#rise(member);
      if (channel !== undefined) this.#sit(member, channel);
    });
  }

  /** Nobody moves while `work` is done. */
  async hold<T>(work: () => Promise<T>): Promise<T> {
    this.#waiting = [];
    try {
      return await work();
    } finally {
      const waiting = this.#waiting;
      this.#waiting = undefined;
      for (const move of waiting) move();
    }
  }

  ofChannel(channel: Channel): Iterable<Seat> {
    return this.#channels.get(channel)?.values() ?? [];
  }

  /** Who may hear of changes of a table: members of channels that are subscribed to it, or with subscriptions of their own. */
  ofTable(oid: number): TableSeats {
    const shared = this.#parts.subscriptions.byTable(oid);
    let known = this.#tables.get(oid);
    if (known === undefined) {
      known = { seats: new TableSeats(), shared: [], channels: new Set() };
      this.#tables.set(oid, known);
      for (const owner of this.#parts.personal.byTable(oid).keys()) {
        const seat = this.#ofMember.get(owner);
        if (seat !== undefined) known.seats.add(seat);
      }
    }
    if (known.shared !== shared) this.#subscribed(oid, known, shared);
    return known.seats;
  }

  /**
   * Rows of a table have changed, from which memberships may be read: they are read anew, of whom that concerns. False:
   * none are read from it.
   */
  changed(batch: ChangeBatch): boolean {
    const { oid } = batch.view.facts;
    let isReadFrom = false;
    for (const { seats } of this.#tables.values())
      for (const role of seats.roles.values()) if (role.changed(oid, batch)) isReadFrom = true;
    return isReadFrom;
  }

  /** Memberships may have changed without a word: all are read anew. */
  distrust(): void {
    for (const { seats } of this.#tables.values()) for (const role of seats.roles.values()) role.distrust();
  }

  #when(move: () => void): void {
    if (this.#waiting === undefined) move();
    else this.#waiting.push(move);
  }

  #sit(member: Subscriber, channel: Channel): void {
    const context = this.#parts.contexts.of(member.identity);
    const owner = this.#parts.personal.isOwner(member) ? member : undefined;
    const key = owner === undefined ? `context ${context.key}` : `owner ${owner.id}`;
    let seats = this.#channels.get(channel);
    if (seats === undefined) {
      seats = new Map();
      this.#channels.set(channel, seats);
    }
    let seat = seats.get(key);
    if (seat === undefined) {
      seat = { key, channel, context, owner, members: new Set() };
      seats.set(key, seat);
      for (const [oid, known] of this.#tables) if (this.#concerns(seat, oid, known)) known.seats.add(seat);
    }
    seat.members.add(member);
    this.#ofMember.set(member, seat);
  }

  #rise(member: Subscriber): void {
    const seat = this.#ofMember.get(member);
    if (seat === undefined) return;
    this.#ofMember.delete(member);
    seat.members.delete(member);
    if (seat.members.size > 0) return;
    for (const { seats } of this.#tables.values()) seats.remove(seat);
    const others = this.#channels.get(seat.channel);
    others?.delete(seat.key);
    if (others?.size === 0) this.#channels.delete(seat.channel);
  }

  #concerns(seat: Seat, oid: number, { channels }: KnownTable): boolean {
    const { personal } = this.#parts;
    const { owner, channel } = seat;
    return channels.has(channel.name) || (owner !== undefined && personal.byTable(oid).has(owner));
  }

  /** The subscriptions of channels to the table are others. */
  #subscribed(oid: number, known: KnownTable, shared: readonly Subscription[]): void {
    const before = known.channels;
    known.shared = shared;
    known.channels = new Set(shared.flatMap(({ active, channelName }) => (active ? [channelName] : [])));
    for (const [channel, seats] of this.#channels) {
      if (before.has(channel.name) === known.channels.has(channel.name)) continue;
      for (const seat of seats.values()) {
        if (this.#concerns(seat, oid, known)) known.seats.add(seat);
        else known.seats.remove(seat);
      }
    }
  }
}

/** Who may hear of one table, by database role. */
export class TableSeats {
  readonly roles = new Map<string, RoleSeats>();

  add(seat: Seat): void {
    const { role } = seat.context;
    const own = this.roles.get(role) ?? new RoleSeats();
    this.roles.set(role, own);
    own.add(seat);
  }

  remove(seat: Seat): void {
    const { role } = seat.context;
    const own = this.roles.get(role);
    own?.remove(seat);
    if (own?.listeners.size === 0) this.roles.delete(role);
  }
}

/** Whom an index of compiled policies finds, and who is beyond it. */
interface Indexed {
  readonly judging: Compiled;
  readonly index: ContextIndex<Listener>;
  /** What their context's settings come to is not known yet. */
  readonly waiting: Set<Listener>;
  /** PostgreSQL judges them. */
  readonly beyond: Set<Listener>;
  /** By the tables that memberships are read from: whom a row there concerns; undefined: everybody. */
  readonly concerned: readonly { readonly oid: number; readonly index: ContextIndex<Listener> | undefined }[];
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

  /** Rows of a table have changed that memberships may be read from: whom they concern is asked for anew. False: none are. */
  changed(oid: number, batch: ChangeBatch): boolean {
    const concerned = (this.#indexed?.concerned ?? []).filter((concern) => concern.oid === oid);
    for (const { index } of concerned) {
      const listeners = index === undefined ? undefined : listenersOf(index, batch);
      for (const listener of listeners ?? this.listeners.values()) this.#doubt(listener);
    }
    return concerned.length > 0;
  }

  /** Memberships may have changed without a word. */
  distrust(): void {
    if ((this.#indexed?.concerned ?? []).length === 0) return;
    for (const listener of this.listeners.values()) this.#doubt(listener);
  }

  #doubt(listener: Listener): void {
    if (this.#indexed === undefined) return;
    this.#indexed.doubts += 1;
    this.#leave(listener);
    this.#indexed.waiting.add(listener);
  }

  #leave(listener: Listener): void {
    this.#indexed?.index.remove(listener);
    this.#indexed?.beyond.delete(listener);
    for (const { index } of this.#indexed?.concerned ?? []) index?.remove(listener);
  }

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
      concerned: memberships.map(({ oid, concerns }) => ({
        oid,
        index: concerns === undefined ? undefined : new ContextIndex<Listener>(concerns),
      })),
      doubts: 0,
    };
    return this.#indexed;
  }

  async #add(indexed: Indexed, coming: readonly Listener[], fold: Fold): Promise<void> {
    if (coming.length === 0) return;
    const { doubts } = indexed;
    const slots = await fold(coming.map(({ context }) => context));
    // What was read may be of before what is in doubt since.
    if (indexed.doubts !== doubts) return;
    for (const [n, listener] of coming.entries()) {
      // It has left meanwhile, or was added beside us.
      if (!indexed.waiting.delete(listener)) continue;
      const own = slots[n];
      if (own === undefined) indexed.beyond.add(listener);
      else
        for (const index of [indexed.index, ...indexed.concerned.map((concern) => concern.index)])
          index?.add(listener, own);
    }
  }
}

/** Whom one of the changes concerns; undefined: everybody. */
function listenersOf(index: ContextIndex<Listener>, batch: ChangeBatch): Set<Listener> | undefined {
  const found = new Set<Listener>();
  for (const { streamed, oldRow, newRow } of batch.changes) {
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
