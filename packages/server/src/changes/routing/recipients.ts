import type { Channel } from '../../channels/channel.js';
import type { Subscriber } from '../../channels/subscriber.js';
import type { RecipientGroup, SubscriptionTarget } from '../model/recipient-group.js';
import type { Viewers } from '../model/viewer.js';
import type { PersonalSubscriptions } from '../subscriptions/personal-subscriptions.js';
import type { Subscription } from '../subscriptions/subscription.js';
import { RoleRecipients } from './role-recipients.js';
import type { TableBatch } from './table-batch.js';

export interface RecipientsParts {
  readonly viewers: Viewers;
  readonly personal: Pick<PersonalSubscriptions, 'isOwner' | 'byTable'>;
  readonly subscriptions: { byTable(oid: number): readonly Subscription[] };
}

/** The recipients of one table, and the channels that are subscribed to it. */
interface TableEntry {
  readonly recipients: TableRecipients;
  shared: readonly Subscription[];
  channels: ReadonlySet<string>;
}

/**
 * Keeps the members of channels in recipient groups, and the groups by table and role. Groups are updated as
 * members join and leave, so that a change costs nothing for members that do not subscribe to its table.
 * While a batch is routed the groups are frozen; joins, leaves and updates take effect after it.
 */
export class Recipients {
  readonly #parts: RecipientsParts;
  readonly #channels = new Map<Channel, Map<string, RecipientGroup>>();
  readonly #groupOf = new Map<Subscriber, RecipientGroup>();
  readonly #tables = new Map<number, TableEntry>();
  #deferred: (() => void)[] | undefined;

  constructor(parts: RecipientsParts) {
    this.#parts = parts;
  }

  join(member: Subscriber, channel: Channel): void {
    this.#whenUnfrozen(() => this.#assign(member, channel));
  }

  leave(member: Subscriber): void {
    this.#whenUnfrozen(() => this.#unassign(member));
  }

  /** Moves a member to the right group after its personal subscriptions have changed. */
  update(member: Subscriber): void {
    this.#whenUnfrozen(() => this.#reassign(member));
  }

  /**
   * Moves a member to the right group after its identity has changed. Does nothing if the viewer is the same:
   * one that moves is evaluated again.
   */
  updateViewer(member: Subscriber): void {
    this.#whenUnfrozen(() => {
      const viewer = this.#groupOf.get(member)?.viewer;
      if (viewer?.key !== this.#parts.viewers.of(member.identity).key) this.#reassign(member);
    });
  }

  /** Applies what may have changed of a member since it joined: its identity, and its personal subscriptions. */
  refresh(member: Subscriber): void {
    if (this.#parts.personal.isOwner(member) || this.#groupOf.get(member)?.owner !== undefined)
      this.update(member);
    else this.updateViewer(member);
  }

  /** Updates the viewers of all members. */
  updateViewers(): void {
    // A member that moves is visited again, at the end, and stays.
    for (const member of this.#groupOf.keys()) this.updateViewer(member);
  }

  /** Defers all joins, leaves and updates until `work` is done. */
  async freezeDuring<T>(work: () => Promise<T>): Promise<T> {
    this.#deferred = [];
    try {
      return await work();
    } finally {
      const deferred = this.#deferred;
      this.#deferred = undefined;
      for (const update of deferred) update();
    }
  }

  groupsOfChannel(channel: Channel): Iterable<RecipientGroup> {
    return this.#channels.get(channel)?.values() ?? [];
  }

  /** Whether anybody else than these groups follows the subscriptions of a target to a table. */
  isFollowed(target: SubscriptionTarget, oid: number, except: ReadonlySet<RecipientGroup>): boolean {
    for (const recipients of this.ofTable(oid).byRole.values())
      for (const group of recipients.groupsOf(target)) if (!except.has(group)) return true;
    return false;
  }

  /**
   * Returns the recipients of a table: members of channels that are subscribed to it, or with personal
   * subscriptions to it.
   */
  ofTable(oid: number): TableRecipients {
    const shared = this.#parts.subscriptions.byTable(oid);
    let entry = this.#tables.get(oid);
    if (entry === undefined) {
      entry = { recipients: new TableRecipients(), shared: [], channels: new Set() };
      this.#tables.set(oid, entry);
      for (const owner of this.#parts.personal.byTable(oid).keys()) {
        const group = this.#groupOf.get(owner);
        if (group !== undefined) entry.recipients.add(group);
      }
    }
    if (entry.shared !== shared) this.#subscriptionsChanged(oid, entry, shared);
    return entry.recipients;
  }

  /** Applies the changes of a table to the membership lists that are read from it. */
  tableChanged(tableBatch: TableBatch): void {
    const { oid } = tableBatch.layout.facts;
    for (const role of this.#roles()) role.tableChanged(oid, tableBatch);
  }

  /** Whether any membership list is kept up to date by the changes of the table. */
  tracksMemberships(oid: number): boolean {
    for (const role of this.#roles()) if (role.tracksMemberships(oid)) return true;
    return false;
  }

  /**
   * Invalidates all membership lists, which may have changed without a change in the stream: they are read
   * again.
   */
  invalidateMemberships(): void {
    for (const role of this.#roles()) role.invalidateMemberships();
  }

  *#roles(): Iterable<RoleRecipients> {
    for (const { recipients } of this.#tables.values()) yield* recipients.byRole.values();
  }

  #whenUnfrozen(update: () => void): void {
    if (this.#deferred === undefined) update();
    else this.#deferred.push(update);
  }

  #reassign(member: Subscriber): void {
    const channel = this.#groupOf.get(member)?.channel;
    this.#unassign(member);
    if (channel !== undefined) this.#assign(member, channel);
  }

  #assign(member: Subscriber, channel: Channel): void {
    const viewer = this.#parts.viewers.of(member.identity);
    const owner = this.#parts.personal.isOwner(member) ? member : undefined;
    const key = owner === undefined ? `viewer ${viewer.key}` : `owner ${owner.id}`;
    let groups = this.#channels.get(channel);
    if (groups === undefined) {
      groups = new Map();
      this.#channels.set(channel, groups);
    }
    let group = groups.get(key);
    if (group === undefined) {
      group = { key, channel, viewer, owner, members: new Set() };
      groups.set(key, group);
      for (const [oid, entry] of this.#tables)
        if (this.#isRecipient(group, oid, entry)) entry.recipients.add(group);
    }
    group.members.add(member);
    this.#groupOf.set(member, group);
  }

  #unassign(member: Subscriber): void {
    const group = this.#groupOf.get(member);
    if (group === undefined) return;
    this.#groupOf.delete(member);
    group.members.delete(member);
    if (group.members.size > 0) return;
    for (const { recipients } of this.#tables.values()) recipients.remove(group);
    const others = this.#channels.get(group.channel);
    others?.delete(group.key);
    if (others?.size === 0) this.#channels.delete(group.channel);
  }

  #isRecipient(group: RecipientGroup, oid: number, { channels }: TableEntry): boolean {
    const { personal } = this.#parts;
    const { owner, channel } = group;
    return channels.has(channel.name) || (owner !== undefined && personal.byTable(oid).has(owner));
  }

  /** Adds and removes groups after the channels' subscriptions to a table have changed. */
  #subscriptionsChanged(oid: number, entry: TableEntry, shared: readonly Subscription[]): void {
    const before = entry.channels;
    entry.shared = shared;
    entry.channels = new Set(shared.flatMap(({ active, channelName }) => (active ? [channelName] : [])));
    for (const [channel, groups] of this.#channels) {
      if (before.has(channel.name) === entry.channels.has(channel.name)) continue;
      for (const group of groups.values()) {
        if (this.#isRecipient(group, oid, entry)) entry.recipients.add(group);
        else entry.recipients.remove(group);
      }
    }
  }
}

/** The recipients of one table, by database role. */
export class TableRecipients {
  readonly byRole = new Map<string, RoleRecipients>();

  add(group: RecipientGroup): void {
    const { role } = group.viewer;
    const roleRecipients = this.byRole.get(role) ?? new RoleRecipients();
    this.byRole.set(role, roleRecipients);
    roleRecipients.add(group);
  }

  remove(group: RecipientGroup): void {
    const { role } = group.viewer;
    const roleRecipients = this.byRole.get(role);
    roleRecipients?.remove(group);
    if (roleRecipients?.viewers.size === 0) this.byRole.delete(role);
  }
}
