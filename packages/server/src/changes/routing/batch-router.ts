import type { Channel } from '../../channels/channel.js';
import type { WalRelation } from '../../postgres/source/change-source.js';
import type { StreamedChange, StreamedMessage } from '../log/packed-changes.js';
import type { SqlMessages } from '../log/sql-messages.js';
import type { RecipientGroup, SubscriptionTarget } from '../model/recipient-group.js';
import type { TableFacts } from '../model/table-facts.js';
import type { ChangeOutcomes } from '../subscriptions/change-counts.js';
import type { PersonalSubscriptions } from '../subscriptions/personal-subscriptions.js';
import type { Subscription } from '../subscriptions/subscription.js';
import type { ValueFormats } from '../values/value-formats.js';
import type { Authorizer, EvaluationResult } from '../visibility/authorizer.js';
import type { RolePrivileges } from '../visibility/role-privileges.js';
import { BatchOutcomes, type UndeliveredReason } from './batch-outcomes.js';
import type { ChangeEncoder } from './change-encoder.js';
import { ChangeFrames } from './change-frames.js';
import { FilterMatches, isSubscribedTo } from './filter-matches.js';
import { GroupDeliveries, type GroupDelivery } from './group-deliveries.js';
import { type DeliveredChanges, MessageListBuilder } from './message-list-builder.js';
import type { Recipients, TableRecipients } from './recipients.js';
import type { EvaluateParameters, RoleRecipients } from './role-recipients.js';
import { RowVisibility } from './row-visibility.js';
import { TableBatch } from './table-batch.js';
import { type Entry, TableSubscriptions } from './table-subscriptions.js';
import type { TableView } from './table-view.js';
import type { TableViews } from './table-views.js';

/** Counts what routing does; read when metrics are scraped. */
interface RoutingCounters {
  rowsEvaluated: number;
  changesFiltered: number;
  changeErrors: number;
}

export interface BatchRouterParts {
  readonly authorizer: Authorizer;
  readonly views: TableViews;
  readonly formats: ValueFormats;
  readonly encoder: ChangeEncoder;
  readonly personal: Pick<PersonalSubscriptions, 'byTable' | 'version'>;
  readonly messages: Pick<SqlMessages, 'read' | 'encode'>;
  readonly subscriptions: { byTable(oid: number): readonly Subscription[] };
  /** The channel, or undefined where it is no more. */
  readonly channel: (name: string) => Channel | undefined;
  readonly counters: RoutingCounters;
}

/** What becomes of a slice. */
export interface Routed {
  readonly deliveries: Iterable<GroupDelivery>;
  readonly delivered: DeliveredChanges;
  readonly outcomes: ChangeOutcomes;
}

/** So many that a slice that comes meanwhile hardly waits. */
const PREPARED_VIEWERS = 100;

/** What is gathered of a slice. */
interface BatchResult {
  readonly deliveries: GroupDeliveries;
  readonly delivered: DeliveredChanges;
  readonly outcomes: BatchOutcomes;
}

/** The subscriptions of a table as they were made ready, and what they were made of. */
interface Prepared {
  readonly facts: TableFacts;
  readonly shared: readonly Subscription[];
  /** Of the subscriptions of connections. */
  readonly version: number;
  readonly subscriptions: TableSubscriptions;
}

/** Decides, for one slice of changes, who gets what: subscription, condition, rights and policies. */
export class BatchRouter {
  readonly #parts: BatchRouterParts;
  readonly #prepared = new Map<number, Prepared>();

  constructor(parts: BatchRouterParts) {
    this.#parts = parts;
  }

  /** What each of these seats gets. Throws StaleFacts when the catalog has changed meanwhile. */
  async route(epoch: string, changes: readonly StreamedChange[], recipients: Recipients): Promise<Routed> {
    const { authorizer, encoder } = this.#parts;
    const into: BatchResult = {
      deliveries: new GroupDeliveries(),
      delivered: new Map(),
      outcomes: new BatchOutcomes(),
    };
    const { deliveries, delivered, outcomes } = into;
    const segments = await this.#segments(changes, recipients);
    const tableBatches = segments.flat();
    const hasRecipients = ({ view: { facts } }: TableBatch) => recipients.ofTable(facts.oid).roles.size > 0;
    const withRecipients = tableBatches.filter(hasRecipients);
    if (
      withRecipients.length > 0 ||
      tableBatches.some(({ view }) => recipients.readsMemberships(view.facts.oid))
    ) {
      const tables = new Set(withRecipients.map(({ view }) => view.facts));
      await authorizer.verify([...tables], xidsOf(changes));
    }
    const listsByView = new Map<TableView, MessageListBuilder>();
    for (const segment of segments) {
      for (const tableBatch of segment) recipients.tableChanged(tableBatch);
      for (const tableBatch of segment.filter(hasRecipients)) {
        const { view } = tableBatch;
        const lists =
          listsByView.get(view) ?? new MessageListBuilder(new ChangeFrames(epoch, view, encoder), delivered);
        listsByView.set(view, lists);
        await this.#routeTable(tableBatch, recipients.ofTable(view.facts.oid), lists, into);
      }
    }
    for (const lists of listsByView.values()) lists.finish(deliveries);
    for (const [batchIndex, change] of changes.entries())
      if (change.kind === 'message') this.#routeMessage(epoch, change, batchIndex, recipients, deliveries);
    return { deliveries: deliveries.all(), delivered, outcomes: outcomes.finish(delivered) };
  }

  /**
   * Has some of those who may hear of a table looked up ahead of its next change, which then need not wait for it.
   * False: there are none. Throws StaleFacts.
   */
  async prepare(oid: number, recipients: Recipients): Promise<boolean> {
    const { authorizer } = this.#parts;
    for (const [role, own] of recipients.ofTable(oid).roles) {
      const facts = await authorizer.facts(oid);
      if (facts === undefined) return false;
      const { rows, policyCompilation } = await authorizer.privileges(facts, role);
      if (rows !== 'filtered' || !('compiled' in policyCompilation)) continue;
      const fold: EvaluateParameters = (viewers) => authorizer.evaluateParameters(facts, role, viewers);
      if (await own.prepare(policyCompilation, fold, PREPARED_VIEWERS)) return true;
    }
    return false;
  }

  /** What was sent by SQL goes to all members of its channel. */
  #routeMessage(
    epoch: string,
    streamed: StreamedMessage,
    batchIndex: number,
    recipients: Recipients,
    deliveries: GroupDeliveries,
  ): void {
    const { messages, channel: find } = this.#parts;
    const { transaction, index, bytes, start, end } = streamed;
    const message = messages.read(bytes.subarray(start, end), transaction.xid);
    const channel = message === undefined ? undefined : find(message.channel);
    if (message === undefined || channel === undefined) return;
    const { commitLsn, commitTime } = transaction;
    const frame = messages.encode(message, { epoch, position: { commitLsn, index }, commitTime });
    for (const group of recipients.groupsOfChannel(channel))
      deliveries.of(group).lists.push([{ batchIndex, frame }]);
  }

  /**
   * The changes of a slice, decoded. Where a transaction changes who is a member of what, another segment begins: it
   * counts for what that commits, and for nothing before. Tables that are no more are left out.
   */
  async #segments(changes: readonly StreamedChange[], recipients: Recipients): Promise<TableBatch[][]> {
    const begins = new Set<bigint>();
    for (const change of changes)
      if (change.kind !== 'message' && recipients.tracksMemberships(change.relation.oid))
        begins.add(change.transaction.commitLsn);
    const segments: Map<WalRelation, TableBatch | undefined>[] = [new Map()];
    let last: bigint | undefined;
    for (const [batchIndex, change] of changes.entries()) {
      const { commitLsn } = change.transaction;
      if (commitLsn !== last && begins.has(commitLsn)) segments.push(new Map());
      last = commitLsn;
      if (change.kind === 'message') continue;
      const { relation } = change;
      const tableBatches = segments.at(-1);
      if (tableBatches?.has(relation) === false) {
        const view = await this.#parts.views.of(relation);
        tableBatches.set(relation, view === undefined ? undefined : new TableBatch(view));
      }
      tableBatches?.get(relation)?.add(change, batchIndex);
    }
    const known = segments.map((tableBatches) =>
      [...tableBatches.values()].filter((tableBatch) => tableBatch !== undefined),
    );
    this.#parts.formats.beginRows();
    for (const { view, changes: own } of known.flat()) {
      const rows = own.flatMap((change) => [change.old, change.new]);
      await this.#parts.formats.convert(view.relation, rows);
    }
    return known;
  }

  async #routeTable(
    tableBatch: TableBatch,
    tableRecipients: TableRecipients,
    lists: MessageListBuilder,
    into: BatchResult,
  ): Promise<void> {
    const { authorizer, counters } = this.#parts;
    const { facts } = tableBatch.view;
    const subscriptions = await this.#subscriptionsOf(facts);
    if (subscriptions.isEmpty) return;
    const conditionResults = await this.#evaluateConditions(tableBatch, subscriptions, tableRecipients, into);
    const matchesFor = (columns: ReadonlySet<string>) =>
      new FilterMatches(tableBatch, subscriptions, conditionResults, columns);
    const all = matchesFor(new Set(facts.columns.map(({ name }) => name)));
    const roles: RoleOfTable[] = [];
    for (const [role, recipients] of tableRecipients.roles) {
      const privileges = await authorizer.privileges(facts, role);
      const matches = facts.columns.every(({ name }) => privileges.columns.has(name))
        ? all
        : matchesFor(privileges.columns);
      roles.push({ recipients, privileges });
      if (!privileges.canSelect || privileges.rows === 'none')
        counters.changesFiltered += tableBatch.changes.filter((change) => matches.hasMatch(change)).length;
      else if (privileges.rows === 'all')
        deliverToAll(tableBatch, subscriptions, matches, recipients, privileges, lists);
      else await this.#routeByPolicies(tableBatch, matches, recipients, privileges, lists, into);
    }
    into.outcomes.add(tableBatch, subscriptions, all, (entry) => undeliveredReasonOf(entry, roles));
  }

  /** The subscriptions to a table, of channels and of connections, ready to be held against rows. */
  async #subscriptionsOf(facts: TableFacts): Promise<TableSubscriptions> {
    const { authorizer, personal, subscriptions: registry } = this.#parts;
    const shared = registry.byTable(facts.oid);
    const { version } = personal;
    const known = this.#prepared.get(facts.oid);
    if (known?.facts === facts && known.shared === shared && known.version === version)
      return known.subscriptions;
    const all: [SubscriptionTarget, Subscription][] = [];
    for (const subscription of shared)
      if (subscription.active) all.push([subscription.channelName, subscription]);
    for (const [owner, some] of personal.byTable(facts.oid))
      for (const subscription of some) all.push([owner, subscription]);
    const subscriptions =
      known?.facts === facts ? known.subscriptions : new TableSubscriptions(authorizer, facts);
    await subscriptions.update(all);
    this.#prepared.set(facts.oid, { facts, shared, version, subscriptions });
    return subscriptions;
  }

  /** What PostgreSQL says of the conditions that only it evaluates; whoever has one that fails is told. */
  async #evaluateConditions(
    tableBatch: TableBatch,
    subscriptions: TableSubscriptions,
    tableRecipients: TableRecipients,
    { deliveries, outcomes }: BatchResult,
  ): Promise<ReadonlyMap<string, EvaluationResult>> {
    const { authorizer, counters } = this.#parts;
    const { conditionsInPostgres } = subscriptions;
    const conditionResults = new Map<string, EvaluationResult>();
    if (conditionsInPostgres.length === 0 || tableBatch.rows.length === 0) return conditionResults;
    const results = await authorizer.evaluateConditions(
      tableBatch.view.facts,
      tableBatch.rows,
      conditionsInPostgres,
    );
    for (const [n, { sql, columns }] of conditionsInPostgres.entries()) {
      const result = results[n];
      if (result === undefined) throw new Error('a condition without a verdict');
      conditionResults.set(sql, result);
      const required = tableBatch.view.requirement(columns);
      const hasFailed = (row: number) =>
        result.failed.has(row) && required !== null && tableBatch.knows(row, required);
      const failed = tableBatch.changes.filter(
        ({ oldRow, newRow }) => hasFailed(oldRow) || hasFailed(newRow),
      );
      if (failed.length === 0) continue;
      counters.changeErrors += 1;
      for (const { target, subscription } of subscriptions.withCondition(sql)) {
        for (const change of failed)
          if (isSubscribedTo(subscription, change)) outcomes.conditionFailed(subscription, change);
        for (const recipients of tableRecipients.roles.values())
          for (const group of recipients.groupsOf(target))
            deliveries.of(group).failed.set(subscription, tableBatch.view.facts);
      }
    }
    return conditionResults;
  }

  /** Gives everybody what the policies show them. */
  async #routeByPolicies(
    tableBatch: TableBatch,
    matches: FilterMatches,
    recipients: RoleRecipients,
    privileges: RolePrivileges,
    lists: MessageListBuilder,
    { deliveries, outcomes }: BatchResult,
  ): Promise<void> {
    const { authorizer, counters } = this.#parts;
    const visibility = await RowVisibility.of(authorizer, tableBatch, matches, recipients, privileges);
    for (const change of tableBatch.changes) {
      let isFiltered = true;
      for (const tableViewer of visibility.viewersOf(change)) {
        const isVisible = (row: number) => visibility.isVisible(tableViewer, row);
        for (const group of tableViewer.groups) {
          const match = matches.of(change, group);
          if (match !== undefined && lists.add(group, match, privileges, isVisible)) isFiltered = false;
        }
      }
      if (isFiltered && matches.hasMatch(change)) counters.changesFiltered += 1;
    }
    counters.rowsEvaluated += visibility.evaluated;
    for (const [tableViewer, rows] of visibility.failed) {
      counters.changeErrors += rows.size;
      for (const change of tableBatch.changes) {
        if (!rows.has(change.oldRow) && !rows.has(change.newRow)) continue;
        for (const group of tableViewer.groups) {
          const match = matches.of(change, group);
          for (const subscription of [
            ...(match?.oldSubscriptions ?? []),
            ...(match?.newSubscriptions ?? []),
          ]) {
            deliveries.of(group).failed.set(subscription, tableBatch.view.facts);
            outcomes.policyFailed(subscription, change);
          }
        }
      }
    }
  }
}

/** Those of one role who listen, and what they may. */
interface RoleOfTable {
  readonly recipients: RoleRecipients;
  readonly privileges: RolePrivileges;
}

/** Why nobody gets what a subscription wants, if nobody does. */
function undeliveredReasonOf(
  { target, subscription }: Entry,
  roles: readonly RoleOfTable[],
): UndeliveredReason {
  const withMembers = roles.filter(({ recipients }) => recipients.hasAny(target));
  if (withMembers.length === 0) return 'unheard';
  const read = subscription.condition?.columns ?? [];
  const canRead = ({ privileges }: RoleOfTable) =>
    privileges.canSelect && read.every((name) => privileges.columns.has(name));
  return withMembers.some(canRead) ? 'policy' : 'privilege';
}

function xidsOf(changes: readonly StreamedChange[]): number[] {
  return [...new Set(changes.map(({ transaction }) => transaction.xid))];
}

/** Row level security does not apply: what a channel wants all its members get, in one list. */
function deliverToAll(
  tableBatch: TableBatch,
  subscriptions: TableSubscriptions,
  matches: FilterMatches,
  recipients: RoleRecipients,
  privileges: RolePrivileges,
  lists: MessageListBuilder,
): void {
  for (const change of tableBatch.changes) {
    const targets = new Set<SubscriptionTarget>(
      change.streamed.kind === 'truncate' ? subscriptions.targets : subscriptions.targetsWithUnconditional,
    );
    for (const target of matches.conditionalTargets(change)) targets.add(target);
    const separateGroups = new Set<RecipientGroup>();
    for (const target of targets) {
      const sharedGroups = typeof target === 'string' ? recipients.sharedGroups.get(target) : undefined;
      const [first] = sharedGroups ?? [];
      const match = first === undefined ? undefined : matches.of(change, first);
      if (sharedGroups !== undefined && match !== undefined) lists.addShared(sharedGroups, match, privileges);
      for (const group of recipients.groupsOf(target))
        if (group.owner !== undefined) separateGroups.add(group);
    }
    // What is wanted by the channel and by the member itself makes one message.
    for (const group of separateGroups) {
      const match = matches.of(change, group);
      if (match !== undefined) lists.add(group, match, privileges, () => true);
    }
  }
}
