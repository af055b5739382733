import type { Channel } from '../../channels/channel.js';
import type { Subscriber } from '../../channels/subscriber.js';
import type { PersonalSubscriptions } from '../personal/personal-subscriptions.js';
import type { RowContexts } from '../row-context.js';
import type { Subscription } from '../subscriptions/subscription.js';
import type { ChangeBatch } from './decoded-change.js';
import { RoleSeats } from './role-seats.js';
import type { Seat } from './seat.js';

export interface SeatsParts {
  readonly contexts: RowContexts;
  readonly personal: Pick<PersonalSubscriptions, 'isOwner' | 'byTable'>;
  readonly subscriptions: { byTable(oid: number): readonly Subscription[] };
}

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

  /** Rows of a table have changed, from which memberships may be read. */
  changed(batch: ChangeBatch): void {
    const { oid } = batch.view.facts;
    for (const role of this.#roles()) role.changed(oid, batch);
  }

  /** Whether memberships are read from a table. */
  reads(oid: number): boolean {
    for (const role of this.#roles()) if (role.reads(oid)) return true;
    return false;
  }

  /** Whether memberships are kept up to date by the changes of a table, one after the other. */
  follows(oid: number): boolean {
    for (const role of this.#roles()) if (role.follows(oid)) return true;
    return false;
  }

  /** Memberships may have changed without a word: all are read anew. */
  distrust(): void {
    for (const role of this.#roles()) role.distrust();
  }

  *#roles(): Iterable<RoleSeats> {
    for (const { seats } of this.#tables.values()) yield* seats.roles.values();
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
