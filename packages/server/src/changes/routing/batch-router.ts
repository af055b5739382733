import type { Channel } from '../../channels/channel.js';
import type { StreamedChange, StreamedMessage } from '../log/packed-changes.js';
import type { SqlMessages } from '../log/sql-messages.js';
import type { RecipientGroup, SubscriptionTarget } from '../model/recipient-group.js';
import type { TableFacts } from '../model/table-facts.js';
import type { ChangeOutcomes } from '../subscriptions/change-counts.js';
import type { PersonalSubscriptions } from '../subscriptions/personal-subscriptions.js';
import type { Subscription } from '../subscriptions/subscription.js';
import type { ValueFormats } from '../values/value-formats.js';
import type { Authorizer } from '../visibility/authorizer.js';
import type { RolePrivileges } from '../visibility/role-privileges.js';
import { BatchOutcomes, type UndeliveredReason } from './batch-outcomes.js';
import { segmentsOf } from './batch-segments.js';
import type { ChangeEncoder } from './change-encoder.js';
import { ChangeFrames } from './change-frames.js';
import { ConditionMatches } from './condition-matches.js';
import { FilterMatches, isSubscribedTo } from './filter-matches.js';
import { GroupDeliveries, type GroupDelivery } from './group-deliveries.js';
import { type DeliveredChanges, MessageListBuilder } from './message-list-builder.js';
import type { Recipients, TableRecipients } from './recipients.js';
import type { EvaluateParameters, RoleRecipients } from './role-recipients.js';
import { RowVisibility } from './row-visibility.js';
import type { SubscriptionEntry, SubscriptionIndex } from './subscription-index.js';
import { SubscriptionIndexes } from './subscription-indexes.js';
import type { TableBatch } from './table-batch.js';
import type { TableLayout } from './table-layout.js';
import type { TableLayouts } from './table-layouts.js';

/** Counts evaluated rows, filtered changes and errors; read when metrics are scraped. */
interface RoutingCounters {
  rowsEvaluated: number;
  changesFiltered: number;
  changeErrors: number;
  changesTooLarge: number;
}

export interface BatchRouterParts {
  readonly authorizer: Authorizer;
  readonly layouts: TableLayouts;
  readonly formats: ValueFormats;
  readonly encoder: ChangeEncoder;
  readonly personal: Pick<PersonalSubscriptions, 'byTable' | 'version'>;
  readonly messages: Pick<SqlMessages, 'read' | 'encode'>;
  readonly subscriptions: { byTable(oid: number): readonly Subscription[] };
  /** Returns the channel; undefined if it no longer exists. */
  readonly channel: (name: string) => Channel | undefined;
  readonly counters: RoutingCounters;
  /** The size of the largest message of a change. */
  readonly maxChangeBytes: number;
}

/** The changes to route. */
export interface RoutingRequest {
  readonly epoch: string;
  readonly changes: readonly StreamedChange[];
  /** The transactions that may have changed the catalog after their changes (see `ChangeBatch`). */
  readonly catalogXids: readonly number[];
  /** Asks PostgreSQL whether the catalog has changed: the stream tells only with the next change. */
  readonly mustAskCatalog: boolean;
}

/** The result of routing a batch. */
export interface RoutedBatch {
  readonly deliveries: Iterable<GroupDelivery>;
  readonly delivered: DeliveredChanges;
  readonly outcomes: ChangeOutcomes;
}

/** How many viewers are prepared in one step: few enough that a batch hardly waits for them. */
const VIEWERS_PER_PREPARATION = 100;

/** Collects the result while a batch is routed. */
interface BatchResult {
  readonly deliveries: GroupDeliveries;
  readonly delivered: DeliveredChanges;
  readonly outcomes: BatchOutcomes;
}

/**
 * Routes a batch of changes to recipient groups. A group gets a change if a subscription and its condition
 * match, the role has the privileges, and the policies of row level security show the row to the group's
 * viewer.
 */
export class BatchRouter {
  readonly #parts: BatchRouterParts;
  readonly #subscriptions: SubscriptionIndexes;

  constructor(parts: BatchRouterParts) {
    this.#parts = parts;
    this.#subscriptions = new SubscriptionIndexes(parts);
  }

  /** Returns the messages of each recipient group. Throws StaleFacts if the catalog has changed meanwhile. */
  async route(
    { epoch, changes, catalogXids, mustAskCatalog }: RoutingRequest,
    recipients: Recipients,
  ): Promise<RoutedBatch> {
    const { authorizer, encoder, layouts, formats, maxChangeBytes, counters } = this.#parts;
    const result: BatchResult = {
      deliveries: new GroupDeliveries(),
      delivered: new Map(),
      outcomes: new BatchOutcomes(),
    };
    const { deliveries, delivered, outcomes } = result;
    const segments = await segmentsOf(changes, recipients, layouts, formats);
    const hasRecipients = ({ layout: { facts } }: TableBatch) =>
      recipients.ofTable(facts.oid).byRole.size > 0;
    const tables = new Set(segments.flatMap((segment) => segment.filter(hasRecipients).map(factsOf)));
    const xids = distinctXids(changes);
    await authorizer.verify([...tables], catalogXids, mustAskCatalog);
    const listsByLayout = new Map<TableLayout, MessageListBuilder>();
    for (const segment of segments) {
      // The rows of a transaction are visible by its own membership changes.
      for (const tableBatch of segment) recipients.tableChanged(tableBatch);
      for (const tableBatch of segment.filter(hasRecipients)) {
        const { layout } = tableBatch;
        const lists =
          listsByLayout.get(layout) ??
          new MessageListBuilder(
            new ChangeFrames(epoch, layout, encoder, maxChangeBytes),
            delivered,
            (subscription, change) => outcomes.tooLarge(subscription, change),
          );
        listsByLayout.set(layout, lists);
        await this.#routeTable(tableBatch, recipients.ofTable(layout.facts.oid), lists, xids, result);
      }
    }
    for (const lists of listsByLayout.values()) {
      lists.finish(deliveries);
      counters.changesTooLarge += lists.tooLargeCount;
    }
    for (const [batchIndex, change] of changes.entries())
      if (change.kind === 'message') this.#routeMessage(epoch, change, batchIndex, recipients, deliveries);
    return { deliveries: deliveries.all(), delivered, outcomes: outcomes.finish(delivered) };
  }

  /**
   * Evaluates the policy parameters of some new recipients of a table, so that its next change does not wait
   * for them. Returns false if there are none left. Throws StaleFacts.
   */
  async prepare(oid: number, recipients: Recipients): Promise<boolean> {
    const { authorizer } = this.#parts;
    for (const [role, roleRecipients] of recipients.ofTable(oid).byRole) {
      const facts = await authorizer.facts(oid);
      if (facts === undefined) return false;
      const { rows, policyCompilation } = await authorizer.privileges(facts, role);
      if (rows !== 'filtered' || !('compiled' in policyCompilation)) continue;
      const evaluateParameters: EvaluateParameters = (viewers, xids) =>
        authorizer.evaluateParameters(facts, role, viewers, xids);
      if (await roleRecipients.prepare(policyCompilation, evaluateParameters, VIEWERS_PER_PREPARATION))
        return true;
    }
    return false;
  }

  /** Routes a message of `realtime.send` to all members of its channel. */
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
      deliveries.of(group).lists.push([{ batchIndex, frame, subscriptions: [] }]);
  }

  async #routeTable(
    tableBatch: TableBatch,
    tableRecipients: TableRecipients,
    lists: MessageListBuilder,
    xids: readonly number[],
    result: BatchResult,
  ): Promise<void> {
    const { authorizer, counters } = this.#parts;
    const { facts } = tableBatch.layout;
    const subscriptions = await this.#subscriptions.of(facts);
    if (subscriptions.isEmpty) return;
    const conditions = await ConditionMatches.of(authorizer, tableBatch, subscriptions);
    this.#recordConditionFailures(tableBatch, conditions, tableRecipients, result);
    const matchesFor = (columns: ReadonlySet<string>) =>
      new FilterMatches(subscriptions, conditions, columns);
    const all = matchesFor(new Set(facts.columns.map(({ name }) => name)));
    const roles: RoleAccess[] = [];
    for (const [role, recipients] of tableRecipients.byRole) {
      const privileges = await authorizer.privileges(facts, role);
      const matches = facts.columns.every(({ name }) => privileges.columns.has(name))
        ? all
        : matchesFor(privileges.columns);
      roles.push({ recipients, privileges });
      if (!privileges.canSelect || privileges.rows === 'none')
        counters.changesFiltered += tableBatch.changes.filter((change) => matches.hasMatch(change)).length;
      else if (privileges.rows === 'all')
        deliverToAll(tableBatch, subscriptions, matches, recipients, privileges, lists);
      else {
        const visibility = await RowVisibility.of(
          authorizer,
          tableBatch,
          matches,
          recipients,
          privileges,
          xids,
        );
        this.#routeByPolicies(tableBatch, matches, visibility, privileges, lists, result);
      }
    }
    result.outcomes.add(tableBatch, subscriptions, all, (entry) => undeliveredReasonOf(entry, roles));
  }

  /** Records which subscriptions have a condition that failed. */
  #recordConditionFailures(
    tableBatch: TableBatch,
    { failed }: ConditionMatches,
    tableRecipients: TableRecipients,
    { deliveries, outcomes }: BatchResult,
  ): void {
    for (const { group, rows } of failed) {
      this.#parts.counters.changeErrors += 1;
      const changes = tableBatch.changes.filter(({ oldRow, newRow }) => rows.has(oldRow) || rows.has(newRow));
      for (const { target, subscription } of group.entries) {
        for (const change of changes)
          if (isSubscribedTo(subscription, change)) outcomes.conditionFailed(subscription, change);
        for (const recipients of tableRecipients.byRole.values())
          for (const recipientGroup of recipients.groupsOf(target))
            deliveries.of(recipientGroup).failed.set(subscription, tableBatch.layout.facts);
      }
    }
  }

  /** Routes matching changes to the viewers of one role that the policies show the rows to. */
  #routeByPolicies(
    tableBatch: TableBatch,
    matches: FilterMatches,
    visibility: RowVisibility,
    privileges: RolePrivileges,
    lists: MessageListBuilder,
    result: BatchResult,
  ): void {
    const { counters } = this.#parts;
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
    counters.rowsEvaluated += visibility.evaluatedCount;
    this.#recordPolicyFailures(tableBatch, matches, visibility, result);
  }

  #recordPolicyFailures(
    tableBatch: TableBatch,
    matches: FilterMatches,
    visibility: RowVisibility,
    { deliveries, outcomes }: BatchResult,
  ): void {
    for (const [tableViewer, rows] of visibility.failed) {
      this.#parts.counters.changeErrors += rows.size;
      for (const change of tableBatch.changes) {
        if (!rows.has(change.oldRow) && !rows.has(change.newRow)) continue;
        for (const group of tableViewer.groups) {
          const match = matches.of(change, group);
          for (const subscription of [
            ...(match?.oldSubscriptions ?? []),
            ...(match?.newSubscriptions ?? []),
          ]) {
            deliveries.of(group).failed.set(subscription, tableBatch.layout.facts);
            outcomes.policyFailed(subscription, change);
          }
        }
      }
    }
  }
}

/** The recipients of one role, and the privileges of the role on the table. */
interface RoleAccess {
  readonly recipients: RoleRecipients;
  readonly privileges: RolePrivileges;
}

/** Returns the reason that counts for a matching change that no member gets. */
function undeliveredReasonOf(
  { target, subscription }: SubscriptionEntry,
  roles: readonly RoleAccess[],
): UndeliveredReason {
  const withMembers = roles.filter(({ recipients }) => recipients.hasAny(target));
  if (withMembers.length === 0) return 'unheard';
  const conditionColumns = subscription.condition?.columns ?? [];
  const canRead = ({ privileges }: RoleAccess) =>
    privileges.canSelect && conditionColumns.every((name) => privileges.columns.has(name));
  return withMembers.some(canRead) ? 'policy' : 'privilege';
}

function factsOf({ layout }: TableBatch): TableFacts {
  return layout.facts;
}

function distinctXids(changes: readonly StreamedChange[]): number[] {
  return [...new Set(changes.map(({ transaction }) => transaction.xid))];
}

/**
 * Routes matching changes of a role that row level security does not apply to: the groups of a channel share
 * one list.
 */
function deliverToAll(
  tableBatch: TableBatch,
  subscriptions: SubscriptionIndex,
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
    // A change that matches a channel's and a personal subscription makes one message.
    for (const group of separateGroups) {
      const match = matches.of(change, group);
      if (match !== undefined) lists.add(group, match, privileges, () => true);
    }
  }
}
