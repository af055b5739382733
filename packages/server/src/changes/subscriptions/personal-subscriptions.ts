import { ProtocolError } from '@goforward/realtime-protocol';
import type { Subscriber } from '../../channels/subscriber.js';
import { IdSource } from '../../lib/ids.js';
import type { Subscription } from './subscription.js';

const MAX_PER_CONNECTION = 20;
const MAX_PER_USER = 200;
const MAX_IN_ALL = 20_000;
const NONE: ReadonlyMap<Subscriber, readonly Subscription[]> = new Map();

/** Keeps the subscriptions of single connections. They end with their connection. */
export class PersonalSubscriptions {
  readonly #ids = new IdSource();
  readonly #byOwner = new Map<Subscriber, Map<string, Subscription>>();
  readonly #byTable = new Map<number, Map<Subscriber, readonly Subscription[]>>();
  /** The number of subscriptions of each user. */
  readonly #byUser = new Map<string, number>();
  /** By table: how many connections are about to subscribe, so that its changes are kept. */
  readonly #retained = new Map<number, number>();
  #size = 0;
  #version = 0;
  #onChange: (owner: Subscriber) => void = () => undefined;

  /** Changes whenever a subscription is added or removed. */
  get version(): number {
    return this.#version;
  }

  /** Sets the function that is called whenever the subscriptions of a connection have changed. */
  onChange(listener: (owner: Subscriber) => void): void {
    this.#onChange = listener;
  }

  get size(): number {
    return this.#size;
  }

  /** Returns whether the connection has subscriptions. */
  isOwner(member: Subscriber): boolean {
    return this.#byOwner.has(member);
  }

  /** Returns whether the connection has this subscription. */
  has(member: Subscriber, id: string): boolean {
    return this.#byOwner.get(member)?.has(id) === true;
  }

  newId(): string {
    return `sub_${this.#ids.random(12)}`;
  }

  /** Throws DB_SUBSCRIPTION_FAILED if a limit allows no further subscription. */
  requireRoom(owner: Subscriber): void {
    const own = this.#byOwner.get(owner)?.size ?? 0;
    const ofUser = this.#byUser.get(owner.identity.limitedAs) ?? 0;
    if (own >= MAX_PER_CONNECTION) throw limitReached('A connection', MAX_PER_CONNECTION);
    if (ofUser >= MAX_PER_USER) throw limitReached('The connections of a user together', MAX_PER_USER);
    if (this.#size >= MAX_IN_ALL) throw limitReached('All connections together', MAX_IN_ALL);
  }

  add(owner: Subscriber, subscription: Subscription): void {
    this.requireRoom(owner);
    const own = this.#byOwner.get(owner) ?? new Map<string, Subscription>();
    own.set(subscription.id, subscription);
    this.#byOwner.set(owner, own);
    this.#count(owner, 1);
    this.#index(owner, subscription.tableOid);
  }

  /** Replaces the subscription that has the same id, if it still exists. */
  replace(owner: Subscriber, subscription: Subscription): void {
    const own = this.#byOwner.get(owner);
    const before = own?.get(subscription.id);
    if (own === undefined || before === undefined) return;
    own.set(subscription.id, subscription);
    this.#index(owner, before.tableOid);
    this.#index(owner, subscription.tableOid);
  }

  /** Finds a subscription by its id, with the connection that has it. */
  find(id: string): { readonly owner: Subscriber; readonly subscription: Subscription } | undefined {
    for (const [owner, own] of this.#byOwner) {
      const subscription = own.get(id);
      if (subscription !== undefined) return { owner, subscription };
    }
    return undefined;
  }

  of(owner: Subscriber): readonly Subscription[] {
    return [...(this.#byOwner.get(owner)?.values() ?? [])];
  }

  /** Ends one subscription, or (without an id) all of a connection. Returns false if there is none. */
  remove(owner: Subscriber, id?: string): boolean {
    const own = this.#byOwner.get(owner);
    const ending = id === undefined ? [...(own?.values() ?? [])] : [own?.get(id)];
    let isGone = false;
    for (const subscription of ending) {
      if (subscription === undefined || own?.delete(subscription.id) !== true) continue;
      this.#count(owner, -1);
      isGone = true;
      if (own.size === 0) this.#byOwner.delete(owner);
      this.#index(owner, subscription.tableOid);
    }
    return isGone;
  }

  /** Returns the subscriptions to a table, by connection. */
  byTable(oid: number): ReadonlyMap<Subscriber, readonly Subscription[]> {
    return this.#byTable.get(oid) ?? NONE;
  }

  /** Returns the connections with subscriptions to one of these tables; missing: to any table. */
  owners(tables?: readonly number[]): Iterable<Subscriber> {
    if (tables === undefined) return this.#byOwner.keys();
    return tables.flatMap((oid) => [...this.byTable(oid).keys()]);
  }

  /** Keeps the changes of a table that a connection is about to subscribe to, until the result is called. */
  retainTable(oid: number): () => void {
    this.#retained.set(oid, (this.#retained.get(oid) ?? 0) + 1);
    return () => {
      const left = (this.#retained.get(oid) ?? 1) - 1;
      if (left === 0) this.#retained.delete(oid);
      else this.#retained.set(oid, left);
    };
  }

  isSubscribed(oid: number): boolean {
    return this.#byTable.has(oid) || this.#retained.has(oid);
  }

  /** Returns the oids of the tables that a connection subscribes to. */
  tablesOf(owner: Subscriber): number[] {
    const own = this.#byOwner.get(owner)?.values() ?? [];
    return [...own].flatMap(({ tableOid }) => (tableOid === undefined ? [] : [tableOid]));
  }

  #count(owner: Subscriber, by: 1 | -1): void {
    const user = owner.identity.limitedAs;
    const left = (this.#byUser.get(user) ?? 0) + by;
    if (left === 0) this.#byUser.delete(user);
    else this.#byUser.set(user, left);
    this.#size += by;
  }

  /** Updates the index of the owner's subscriptions to a table. */
  #index(owner: Subscriber, oid: number | undefined): void {
    if (oid === undefined) return;
    const own = this.#byOwner.get(owner)?.values() ?? [];
    const matching = [...own].filter(({ tableOid }) => tableOid === oid);
    const owners = this.#byTable.get(oid) ?? new Map<Subscriber, readonly Subscription[]>();
    if (matching.length > 0) owners.set(owner, matching);
    else owners.delete(owner);
    if (owners.size === 0) this.#byTable.delete(oid);
    else this.#byTable.set(oid, owners);
    this.#version += 1;
    this.#onChange(owner);
  }
}

function limitReached(owner: string, limit: number): ProtocolError {
  return new ProtocolError('DB_SUBSCRIPTION_FAILED', {
    details: `${owner} can have at most ${limit} personal subscriptions`,
    fields: { limit },
  });
}
