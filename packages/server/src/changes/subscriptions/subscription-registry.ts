import { ProtocolError } from '@goforward/realtime-protocol';
import type { WallClock } from '../../lib/clock.js';
import { IdSource } from '../../lib/ids.js';
import type { Log } from '../../lib/log.js';
import type { ChangeFilter } from '../model/change-filter.js';
import type { ChangeCounts } from './change-counts.js';
import type { Subscription } from './subscription.js';
import type { CheckedFilter, CheckedSubscriber, SubscriptionCheck } from './subscription-check.js';
import type { StoredSubscription, SubscriptionStore } from './subscription-store.js';

export interface SubscriptionRegistryParts {
  readonly store: SubscriptionStore;
  readonly preparation: SubscriptionCheck;
  readonly counts: ChangeCounts;
  readonly wallClock: WallClock;
  readonly log: Log;
}

/** The user who subscribes a channel. */
export interface SubscribingUser extends CheckedSubscriber {
  readonly userId: string;
}

const MAX_PER_CHANNEL = 100;
const MAX_IN_ALL = 10_000;
/** How often counts are stored, in ms. */
const COUNT_MS = 10_000;

type Entry = { -readonly [Key in keyof Subscription]: Subscription[Key] } & { readonly filterKey: string };

/** Manages all subscriptions of channels to tables: stores them, and finds them by table and by channel. */
export class SubscriptionRegistry {
  readonly #parts: SubscriptionRegistryParts;
  readonly #ids = new IdSource();
  readonly #all = new Map<string, Entry>();
  #byTable: ReadonlyMap<number, readonly Entry[]> = new Map();
  #byChannel: ReadonlyMap<string, readonly Entry[]> = new Map();
  /** Those with counts that are not stored yet. */
  readonly #withNewCounts = new Set<Entry>();
  #timer: NodeJS.Timeout | undefined;
  #onAdded: (oid: number) => void = () => undefined;

  constructor(parts: SubscriptionRegistryParts) {
    this.#parts = parts;
  }

  get size(): number {
    return this.#all.size;
  }

  start(): void {
    this.#timer = setInterval(() => void this.flush(), COUNT_MS).unref();
  }

  /** Stores the last counts. */
  async stop(): Promise<void> {
    clearInterval(this.#timer);
    await this.flush();
  }

  /** Loads the stored subscriptions. Called each time the database becomes available. */
  async load(): Promise<void> {
    const loaded = await this.#parts.store.load();
    const ids = new Set(loaded.map(({ id }) => id));
    for (const id of this.#all.keys()) if (!ids.has(id)) this.#all.delete(id);
    for (const stored of loaded)
      if (!this.#all.has(stored.id)) this.#all.set(stored.id, await this.#restored(stored));
    this.#index();
  }

  /** Checks all subscriptions again, after a table was enabled, disabled or altered. */
  async refresh(): Promise<void> {
    for (const entry of this.#all.values()) {
      this.#applyPrepared(entry, await this.#prepare(entry));
    }
    this.#index();
  }

  list(): readonly Subscription[] {
    return [...this.#all.values()];
  }

  ofChannel(name: string): readonly Subscription[] {
    return this.#byChannel.get(name) ?? [];
  }

  byTable(oid: number): readonly Subscription[] {
    return this.#byTable.get(oid) ?? [];
  }

  /** Returns whether a channel is subscribed to the table. */
  isSubscribed(oid: number): boolean {
    return this.#byTable.has(oid);
  }

  find(id: string): Subscription | undefined {
    return this.#all.get(id);
  }

  /** Returns the subscription. Throws SUBSCRIPTION_NOT_FOUND. */
  get(id: string): Subscription {
    const subscription = this.#all.get(id);
    if (subscription === undefined)
      throw new ProtocolError('SUBSCRIPTION_NOT_FOUND', { error: `subscription ${id} not found` });
    return subscription;
  }

  /** Calls back with the table of each new subscription, by oid. */
  onAdded(listener: (oid: number) => void): void {
    this.#onAdded = listener;
  }

  /**
   * Subscribes a channel to a table. The same filter again returns the same subscription. Throws DB_SUBSCRIPTION_FAILED
   * if the filter is wrong.
   */
  async subscribe(
    channelName: string,
    filter: ChangeFilter,
    subscriber: SubscribingUser,
  ): Promise<{ subscription: Subscription; warnings: readonly string[] }> {
    const { preparation, store, wallClock } = this.#parts;
    const filterKey = keyOf(filter);
    const known = () => this.#byChannel.get(channelName)?.find((entry) => entry.filterKey === filterKey);
    const prepared = await preparation.checkNew(filter, subscriber);
    const { warnings } = prepared;
    const existing = known();
    if (existing !== undefined) {
      // The name may denote another table by now, or the table may have been enabled just now.
      this.#applyPrepared(existing, prepared);
      this.#index();
      return { subscription: existing, warnings };
    }
    this.#requireRoom(channelName);
    const now = wallClock.epochMs();
    const stored = await store.add({
      id: `sub_${now}_${this.#ids.random(6)}`,
      channelName,
      filter,
      filterKey,
      userId: subscriber.userId,
      role: subscriber.role,
      createdAt: new Date(now),
      messageCount: 0,
      lastActivity: null,
    });
    const entry = known() ?? this.#entryOf(stored, prepared);
    this.#all.set(entry.id, entry);
    this.#index();
    if (entry.tableOid !== undefined) this.#onAdded(entry.tableOid);
    return { subscription: entry, warnings };
  }

  #applyPrepared(entry: Entry, prepared: CheckedFilter | undefined): void {
    if (entry.tableOid !== prepared?.tableOid) entry.counts = this.#parts.counts.begin(prepared?.tableOid);
    entry.tableOid = prepared?.tableOid;
    entry.condition = prepared?.condition ?? null;
    entry.active = prepared?.active ?? false;
  }

  async remove(id: string): Promise<void> {
    await this.#parts.store.remove(this.get(id).id);
    this.#all.delete(id);
    this.#index();
  }

  /** Ends a subscription at once; it is back after a restart if the store cannot remove it now. False: there is none. */
  end(id: string): boolean {
    if (!this.#all.delete(id)) return false;
    this.#index();
    this.#parts.store.remove(id).catch((error: unknown) => {
      this.#parts.log.warn({ err: error, subscription: id }, 'An ended subscription could not be removed');
    });
    return true;
  }

  /** Ends the subscriptions of a channel that was deleted. */
  async removeChannel(channelName: string): Promise<void> {
    const ended = this.ofChannel(channelName);
    if (ended.length === 0) return;
    for (const { id } of ended) this.#all.delete(id);
    this.#index();
    await this.#parts.store.removeChannel(channelName);
  }

  /** Adds to the number of changes that were sent to at least one member. */
  countDelivered({ id }: Subscription, changes: number): void {
    const entry = this.#all.get(id);
    if (entry === undefined) return;
    entry.messageCount += changes;
    entry.lastActivity = new Date(this.#parts.wallClock.epochMs());
    this.#withNewCounts.add(entry);
  }

  /** Stores the counts that have changed. */
  async flush(): Promise<void> {
    const counts = [...this.#withNewCounts].map(({ id, messageCount, lastActivity }) => ({
      id,
      messageCount,
      lastActivity: lastActivity ?? new Date(this.#parts.wallClock.epochMs()),
    }));
    if (counts.length === 0) return;
    this.#withNewCounts.clear();
    try {
      await this.#parts.store.count(counts);
    } catch (error) {
      for (const { id } of counts) {
        const entry = this.#all.get(id);
        if (entry !== undefined) this.#withNewCounts.add(entry);
      }
      this.#parts.log.debug({ err: error }, 'Subscription counts could not be stored');
    }
  }

  async #restored(stored: StoredSubscription): Promise<Entry> {
    return this.#entryOf(
      stored,
      (await this.#prepare(stored)) ?? { tableOid: undefined, condition: null, active: false },
    );
  }

  #entryOf(stored: StoredSubscription, prepared: Omit<CheckedFilter, 'warnings'>): Entry {
    const { tableOid, condition, active } = prepared;
    return { ...stored, tableOid, condition, active, counts: this.#parts.counts.begin(tableOid) };
  }

  /** Returns undefined if the filter no longer fits its table. */
  async #prepare({
    id,
    filter,
    role,
  }: Pick<Subscription, 'id' | 'filter' | 'role'>): Promise<CheckedFilter | undefined> {
    const { preparation, log } = this.#parts;
    try {
      return await preparation.checkStored(filter, role);
    } catch (error) {
      if (!(error instanceof ProtocolError) || error.code === 'DATABASE_UNAVAILABLE') throw error;
      log.warn(
        { subscription: id, reason: error.body.details ?? error.message },
        'Subscription cannot be served: its filter does not fit its table',
      );
      return undefined;
    }
  }

  #requireRoom(channelName: string): void {
    if (this.#all.size >= MAX_IN_ALL)
      throw limitReached(`The server can have at most ${MAX_IN_ALL} subscriptions`);
    if (this.ofChannel(channelName).length >= MAX_PER_CHANNEL)
      throw limitReached(`A channel can have at most ${MAX_PER_CHANNEL} subscriptions`);
  }

  #index(): void {
    this.#byTable = groupedBy(this.#all.values(), ({ tableOid }) => tableOid);
    this.#byChannel = groupedBy(this.#all.values(), ({ channelName }) => channelName);
  }
}

/** Groups entries by key. Entries without a key are left out. */
function groupedBy<Key>(
  entries: Iterable<Entry>,
  keyOf: (entry: Entry) => Key | undefined,
): ReadonlyMap<Key, readonly Entry[]> {
  const groups = new Map<Key, Entry[]>();
  for (const entry of entries) {
    const key = keyOf(entry);
    if (key === undefined) continue;
    const group = groups.get(key);
    if (group === undefined) groups.set(key, [entry]);
    else group.push(entry);
  }
  return groups;
}

/** Returns the same text for filters that match the same changes. */
function keyOf({ table, schema, events, columns, condition }: ChangeFilter): string {
  return JSON.stringify([
    schema,
    table,
    [...new Set(events)].sort(),
    columns === undefined ? null : [...new Set(columns)].sort(),
    condition ?? null,
  ]);
}

function limitReached(details: string): ProtocolError {
  return new ProtocolError('DB_SUBSCRIPTION_FAILED', { details });
}
