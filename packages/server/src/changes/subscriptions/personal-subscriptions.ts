import { ProtocolError } from '@goforward/realtime-protocol';
import type { Subscriber } from '../../channels/subscriber.js';
import { IdSource } from '../../lib/ids.js';
import type { Subscription } from './subscription.js';

const MAX_PER_CONNECTION = 20;
const MAX_PER_USER = 200;
const MAX_IN_ALL = 20_000;
const NONE: ReadonlyMap<Subscriber, readonly Subscription[]> = new Map();

/** Subscriptions of single connections: they end with them. */
export class PersonalSubscriptions {
  readonly #ids = new IdSource();
  readonly #byOwner = new Map<Subscriber, Map<string, Subscription>>();
  readonly #byTable = new Map<number, Map<Subscriber, readonly Subscription[]>>();
  /** How many each user has. */
  readonly #byUser = new Map<string, number>();
  readonly #expected = new Map<number, number>();
  #size = 0;
  #version = 0;
  #onChange: (owner: Subscriber) => void = () => undefined;

  /** Another one whenever any comes or goes. */
  get version(): number {
    return this.#version;
  }

  /** Calls back whenever those of a connection have changed. */
  onChange(listener: (owner: Subscriber) => void): void {
    this.#onChange = listener;
  }

  get size(): number {
    return this.#size;
  }

  /** Whether the connection has any. */
  isOwner(member: Subscriber): boolean {
    return this.#byOwner.has(member);
  }

  newId(): string {
    return `sub_${this.#ids.random(12)}`;
  }

  /** Throws DB_SUBSCRIPTION_FAILED when one more would be too many. */
  requireRoom(owner: Subscriber): void {
    const own = this.#byOwner.get(owner)?.size ?? 0;
    const ofUser = this.#byUser.get(owner.identity.limitedAs) ?? 0;
    if (own >= MAX_PER_CONNECTION) throw full('A connection has', MAX_PER_CONNECTION);
    if (ofUser >= MAX_PER_USER) throw full('The connections of a user have', MAX_PER_USER);
    if (this.#size >= MAX_IN_ALL) throw full('All connections together have', MAX_IN_ALL);
  }

  add(owner: Subscriber, subscription: Subscription): void {
    this.requireRoom(owner);
    const own = this.#byOwner.get(owner) ?? new Map<string, Subscription>();
    own.set(subscription.id, subscription);
    this.#byOwner.set(owner, own);
    this.#count(owner, 1);
    this.#index(owner, subscription.tableOid);
  }

  /** Puts another in the place of the one with its id, if that is still there. */
  replace(owner: Subscriber, subscription: Subscription): void {
    const own = this.#byOwner.get(owner);
    const before = own?.get(subscription.id);
    if (own === undefined || before === undefined) return;
    own.set(subscription.id, subscription);
    this.#index(owner, before.tableOid);
    this.#index(owner, subscription.tableOid);
  }

  /** The one with this id, whoever has it. */
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

  /** Ends one, or (without an id) all; false when there is none. */
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

  /** Those to a table, by the connection that has them. */
  byTable(oid: number): ReadonlyMap<Subscriber, readonly Subscription[]> {
    return this.#byTable.get(oid) ?? NONE;
  }

  /** The connections that have subscriptions to one of these tables; missing: any. */
  owners(tables?: readonly number[]): Iterable<Subscriber> {
    if (tables === undefined) return this.#byOwner.keys();
    return tables.flatMap((oid) => [...this.byTable(oid).keys()]);
  }

  /** Somebody is about to subscribe to the table: its changes are kept until the answer is called. */
  expect(oid: number): () => void {
    this.#expected.set(oid, (this.#expected.get(oid) ?? 0) + 1);
    return () => {
      const left = (this.#expected.get(oid) ?? 1) - 1;
      if (left === 0) this.#expected.delete(oid);
      else this.#expected.set(oid, left);
    };
  }

  isSubscribed(oid: number): boolean {
    return this.#byTable.has(oid) || this.#expected.has(oid);
  }

  /** The tables of a connection, by oid. */
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

  /** Notes anew which of this owner's are of a table. */
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

function full(who: string, limit: number): ProtocolError {
  return new ProtocolError('DB_SUBSCRIPTION_FAILED', {
    details: `${who} at most ${limit} subscriptions of their own`,
    fields: { limit },
  });
}
