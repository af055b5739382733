import type { Channel } from '../../channels/channel.js';
import type { Subscriber } from '../../channels/subscriber.js';
import type { RecipientGroup } from '../model/recipient-group.js';
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

/** A table's listeners, and for whom channels are subscribed to it. */
interface TableEntry {
  readonly recipients: TableRecipients;
  shared: readonly Subscription[];
  channels: ReadonlySet<string>;
}

/**
 * Where the members of channels sit, kept as they come and go: nothing is gone through for a change that is not for
 * them. While changes are handed out everybody keeps their seat; who comes, goes or moves meanwhile does so after that.
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

  /** The member has subscriptions of its own that it had not, or no more, or is somebody else. */
  update(member: Subscriber): void {
    this.#whenUnfrozen(() => {
      const channel = this.#groupOf.get(member)?.channel;
      this.#unassign(member);
      if (channel !== undefined) this.#assign(member, channel);
    });
  }

  /** Nobody moves while `work` is done. */
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

  /** Who may hear of changes of a table: members of channels that are subscribed to it, or with subscriptions of their own. */
  ofTable(oid: number): TableRecipients {
    const shared = this.#parts.subscriptions.byTable(oid);
    let known = this.#tables.get(oid);
    if (known === undefined) {
      known = { recipients: new TableRecipients(), shared: [], channels: new Set() };
      this.#tables.set(oid, known);
      for (const owner of this.#parts.personal.byTable(oid).keys()) {
        const group = this.#groupOf.get(owner);
        if (group !== undefined) known.recipients.add(group);
      }
    }
    if (known.shared !== shared) this.#subscriptionsChanged(oid, known, shared);
    return known.recipients;
  }

  /** Rows of a table have changed, from which memberships may be read. */
  tableChanged(tableBatch: TableBatch): void {
    const { oid } = tableBatch.view.facts;
    for (const role of this.#roles()) role.tableChanged(oid, tableBatch);
  }

  /** Whether memberships are read from a table. */
  readsMemberships(oid: number): boolean {
    for (const role of this.#roles()) if (role.readsMemberships(oid)) return true;
    return false;
  }

  /** Whether memberships are kept up to date by the changes of a table, one after the other. */
  tracksMemberships(oid: number): boolean {
    for (const role of this.#roles()) if (role.tracksMemberships(oid)) return true;
    return false;
  }

  /** Memberships may have changed without a word: all are read anew. */
  invalidateMemberships(): void {
    for (const role of this.#roles()) role.invalidateMemberships();
  }

  *#roles(): Iterable<RoleRecipients> {
    for (const { recipients } of this.#tables.values()) yield* recipients.roles.values();
  }

  #whenUnfrozen(update: () => void): void {
    if (this.#deferred === undefined) update();
    else this.#deferred.push(update);
  }

  #assign(member: Subscriber, channel: Channel): void {
    const viewer = this.#parts.viewers.of(member.identity);
    const owner = this.#parts.personal.isOwner(member) ? member : undefined;
    const key = owner === undefined ? `context ${viewer.key}` : `owner ${owner.id}`;
    let groups = this.#channels.get(channel);
    if (groups === undefined) {
      groups = new Map();
      this.#channels.set(channel, groups);
    }
    let group = groups.get(key);
    if (group === undefined) {
      group = { key, channel, viewer, owner, members: new Set() };
      groups.set(key, group);
      for (const [oid, known] of this.#tables)
        if (this.#isFor(group, oid, known)) known.recipients.add(group);
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

  #isFor(group: RecipientGroup, oid: number, { channels }: TableEntry): boolean {
    const { personal } = this.#parts;
    const { owner, channel } = group;
    return channels.has(channel.name) || (owner !== undefined && personal.byTable(oid).has(owner));
  }

  /** The subscriptions of channels to the table are others. */
  #subscriptionsChanged(oid: number, known: TableEntry, shared: readonly Subscription[]): void {
    const before = known.channels;
    known.shared = shared;
    known.channels = new Set(shared.flatMap(({ active, channelName }) => (active ? [channelName] : [])));
    for (const [channel, groups] of this.#channels) {
      if (before.has(channel.name) === known.channels.has(channel.name)) continue;
      for (const group of groups.values()) {
        if (this.#isFor(group, oid, known)) known.recipients.add(group);
        else known.recipients.remove(group);
      }
    }
  }
}

/** Who may hear of one table, by database role. */
export class TableRecipients {
  readonly roles = new Map<string, RoleRecipients>();

  add(group: RecipientGroup): void {
    const { role } = group.viewer;
    const own = this.roles.get(role) ?? new RoleRecipients();
    this.roles.set(role, own);
    own.add(group);
  }

  remove(group: RecipientGroup): void {
    const { role } = group.viewer;
    const own = this.roles.get(role);
    own?.remove(group);
    if (own?.viewers.size === 0) this.roles.delete(role);
  }
}
