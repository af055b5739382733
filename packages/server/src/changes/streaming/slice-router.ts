import type { Channel } from '../../channels/channel.js';
import type { Subscriber } from '../../channels/subscriber.js';
import type { WalRelation } from '../../postgres/change-source.js';
import type { Authorizer, Condition, JudgeRequest, Verdict } from '../authorizer.js';
import type { PersonalSubscriptions } from '../personal/personal-subscriptions.js';
import type { RowContext, RowContexts } from '../row-context.js';
import type { SqlMessages } from '../sql-messages.js';
import type { Subscription } from '../subscriptions/subscription.js';
import type { RoleRights } from '../table-facts.js';
import type { ValueFormats } from '../values/value-formats.js';
import { type ConditionResults, candidatesOf } from './candidates.js';
import type { ChangeEncoder } from './change-encoder.js';
import { ChangeBatch, NO_ROW } from './decoded-change.js';
import { Frames } from './frames.js';
import { type Group, Groups } from './groups.js';
import { type Delivered, ListWriter, type RolePart } from './list-writer.js';
import type { StreamedChange, StreamedMessage } from './packed-changes.js';
import type { TableViews } from './table-views.js';

/** Counts what routing does; read when metrics are scraped. */
interface RoutingTally {
  changesJudged: number;
  changesRefused: number;
  changeErrors: number;
}

export interface SliceRouterParts {
  readonly authorizer: Authorizer;
  readonly contexts: RowContexts;
  readonly views: TableViews;
  readonly formats: ValueFormats;
  readonly encoder: ChangeEncoder;
  readonly personal: Pick<PersonalSubscriptions, 'isOwner' | 'byTable' | 'channelOf'>;
  readonly messages: Pick<SqlMessages, 'read' | 'encode'>;
  readonly subscriptions: { byTable(oid: number): readonly Subscription[] };
  /** The channel, or undefined where it is no more. */
  readonly channel: (name: string) => Channel | undefined;
  readonly tally: RoutingTally;
}

/** What becomes of a slice. */
export interface Routed {
  readonly groups: readonly Group[];
  readonly delivered: Delivered;
}

/** A channel's part in the changes of one table. */
interface Part {
  readonly subscriptions: readonly Subscription[];
  readonly groups: readonly Group[];
}

/** Decides, for one slice of changes, who gets what: subscription, condition, rights and policies, in this order. */
export class SliceRouter {
  readonly #parts: SliceRouterParts;

  constructor(parts: SliceRouterParts) {
    this.#parts = parts;
  }

  /** The groups of members with what each gets; `membersOf`: who is asked about. Throws StaleFacts when the catalog has changed meanwhile. */
  async route(
    epoch: string,
    changes: readonly StreamedChange[],
    membersOf: (channel: Channel) => Iterable<Subscriber>,
  ): Promise<Routed> {
    const { personal } = this.#parts;
    const groups = new Groups(this.#parts.contexts, membersOf, (member) => personal.isOwner(member));
    const delivered: Delivered = new Map();
    for (const batch of await this.#batches(changes)) {
      const frames = new Frames(epoch, batch.view, this.#parts.encoder);
      await this.#routeBatch(batch, groups, new ListWriter(batch, frames, delivered));
    }
    for (const [position, change] of changes.entries())
      if (change.kind === 'message') this.#routeMessage(epoch, change, position, groups);
    return { groups: groups.all(), delivered };
  }

  /** What was sent by SQL goes to all members of its channel. */
  #routeMessage(epoch: string, streamed: StreamedMessage, position: number, groups: Groups): void {
    const { messages, channel: find } = this.#parts;
    const { transaction, index, bytes, start, end } = streamed;
    const message = messages.read(bytes.subarray(start, end), transaction.xid);
    const channel = message === undefined ? undefined : find(message.channel);
    if (message === undefined || channel === undefined) return;
    const { commitLsn, commitTime } = transaction;
    const frame = messages.encode(message, { epoch, position: { commitLsn, index }, commitTime });
    for (const group of groups.of(channel)) group.lists.push([{ position, frame }]);
  }

  /** The changes of a slice by table, decoded. Tables that are no more are left out. */
  async #batches(changes: readonly StreamedChange[]): Promise<ChangeBatch[]> {
    const batches = new Map<WalRelation, ChangeBatch | undefined>();
    for (const [position, change] of changes.entries()) {
      if (change.kind === 'message') continue;
      const { relation } = change;
      if (!batches.has(relation)) {
        const view = await this.#parts.views.of(relation);
        batches.set(relation, view === undefined ? undefined : new ChangeBatch(view));
      }
      batches.get(relation)?.add(change, position);
    }
    const known = [...batches.values()].filter((batch) => batch !== undefined);
    this.#parts.formats.beginRows();
    for (const { view, changes: own } of known) {
      const rows = own.flatMap((change) => [change.old, change.new]);
      await this.#parts.formats.convert(view.relation, rows);
    }
    return known;
  }

  async #routeBatch(batch: ChangeBatch, groups: Groups, writer: ListWriter): Promise<void> {
    const parts = this.#partsOf(batch, groups);
    if (parts.length === 0) return;
    const { authorizer } = this.#parts;
    const results = await this.#askConditions(batch, parts);
    const roles = new Set(parts.flatMap((part) => part.groups.map(({ context }) => context.role)));
    for (const role of roles) {
      const rights = await authorizer.rights(batch.view.facts, role);
      await this.#routeRole(batch, roleParts(parts, role, rights, batch, results), rights, writer);
    }
  }

  /** By channel, the subscriptions to the table and the members that hear of them. */
  #partsOf({ view }: ChangeBatch, groups: Groups): Part[] {
    const { subscriptions, personal, channel: find } = this.#parts;
    const byChannel = new Map<string, Subscription[]>();
    for (const subscription of subscriptions.byTable(view.facts.oid)) {
      if (!subscription.active) continue;
      const others = byChannel.get(subscription.channelName);
      if (others === undefined) byChannel.set(subscription.channelName, [subscription]);
      else others.push(subscription);
    }
    const owners = personal.byTable(view.facts.oid);
    const channels = new Map<Channel, readonly Subscription[]>();
    for (const [name, own] of byChannel) {
      const channel = find(name);
      if (channel !== undefined && channel.audience.size > 0) channels.set(channel, own);
    }
    for (const owner of owners.keys()) {
      const channel = personal.channelOf(owner);
      if (channel !== undefined && !channels.has(channel)) channels.set(channel, []);
    }
    const parts: Part[] = [];
    for (const [channel, shared] of channels) {
      const common: Group[] = [];
      for (const group of groups.of(channel)) {
        const own = group.owner === undefined ? undefined : owners.get(group.owner);
        // What is wanted by the channel and by the member itself makes one message.
        if (own === undefined) common.push(group);
        else parts.push({ subscriptions: [...shared, ...own], groups: [group] });
      }
      if (common.length > 0 && shared.length > 0) parts.push({ subscriptions: shared, groups: common });
    }
    return parts;
  }

  async #askConditions(batch: ChangeBatch, parts: readonly Part[]): Promise<ConditionResults> {
    const { authorizer, tally } = this.#parts;
    const results = new Map<string, { holds: Set<number>; unknown: Set<number> }>();
    const conditions = new Map<string, Condition>();
    for (const { subscriptions } of parts) {
      for (const { condition } of subscriptions)
        if (condition !== null) conditions.set(condition.sql, condition);
    }
    if (conditions.size === 0 || batch.rows.length === 0) return results;
    const asked = [...conditions.values()];
    const verdicts = await authorizer.conditions(batch.view.facts, batch.rows, asked);
    const failed = new Set<string>();
    for (const [n, { sql, columns }] of asked.entries()) {
      const required = batch.view.requirement(columns);
      const holds = new Set<number>();
      const unknown = new Set<number>();
      for (let row = 0; row < batch.rows.length; row++) {
        if (required === null || !batch.knows(row, required)) unknown.add(row);
        else if (verdicts[n]?.visible.has(row)) holds.add(row);
        else if (verdicts[n]?.failed.has(row)) failed.add(sql);
      }
      results.set(sql, { holds, unknown });
    }
    tally.changeErrors += failed.size;
    for (const { groups, subscriptions } of parts) {
      for (const subscription of subscriptions) {
        if (subscription.condition === null || !failed.has(subscription.condition.sql)) continue;
        for (const group of groups) group.failed.set(subscription, batch.view.facts);
      }
    }
    return results;
  }

  /** Asks what the contexts of one role may see, and gives every group its messages. */
  async #routeRole(
    batch: ChangeBatch,
    parts: readonly RolePart[],
    rights: RoleRights,
    writer: ListWriter,
  ): Promise<void> {
    const { tally } = this.#parts;
    const count = parts.reduce((sum, { candidates }) => sum + candidates.length, 0);
    if (count === 0) return;
    if (!rights.canSelect || rights.rows === 'none') {
      tally.changesRefused += count;
      return;
    }
    if (rights.rows === 'all') {
      for (const part of parts) writer.giveAll(part, rights);
      return;
    }
    const required = batch.view.requirement(rights.reads);
    const isKnown = (row: number) => required !== null && row !== NO_ROW && batch.knows(row, required);
    const requests = requestsOf(parts, isKnown);
    const verdicts = new Map<string, Verdict>();
    if (requests.length > 0) {
      tally.changesJudged += count;
      const answers = await this.#parts.authorizer.judge(batch.view.facts, batch.rows, requests);
      for (const [n, { context }] of requests.entries()) {
        const verdict = answers[n];
        if (verdict === undefined) throw new Error('a context without a verdict');
        verdicts.set(context.key, verdict);
        tally.changeErrors += verdict.failed.size;
      }
    }
    for (const part of parts) tally.changesRefused += writer.giveJudged(part, rights, verdicts, isKnown);
  }
}

/** The part of each channel that concerns members of one role. A condition on a column that it may not read would be an oracle. */
function roleParts(
  parts: readonly Part[],
  role: string,
  { columns }: RoleRights,
  batch: ChangeBatch,
  results: ConditionResults,
): RolePart[] {
  return parts.map(({ subscriptions, groups }) => {
    const allowed = subscriptions.filter(({ condition }) =>
      (condition?.columns ?? []).every((name) => columns.has(name)),
    );
    return {
      groups: groups.filter(({ context }) => context.role === role),
      candidates: candidatesOf(batch.changes, allowed, results),
    };
  });
}

/** One request for each context, of all rows that matter in any of its channels. */
function requestsOf(parts: readonly RolePart[], isKnown: (row: number) => boolean): JudgeRequest[] {
  const asked = new Map<string, { context: RowContext; rows: Set<number> }>();
  for (const { groups, candidates } of parts) {
    const rows = new Set<number>();
    for (const { change, oldWanted, newWanted } of candidates) {
      if (oldWanted.length > 0 && isKnown(change.oldRow)) rows.add(change.oldRow);
      if (newWanted.length > 0 && isKnown(change.newRow)) rows.add(change.newRow);
    }
    if (rows.size === 0) continue;
    for (const { context } of groups) {
      const request = asked.get(context.key);
      if (request === undefined) asked.set(context.key, { context, rows });
      else if (request.rows !== rows) request.rows = new Set([...request.rows, ...rows]);
    }
  }
  return [...asked.values()].map(({ context, rows }) => ({ context, rows: [...rows] }));
}
