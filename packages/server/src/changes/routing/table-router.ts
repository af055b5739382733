import type { RecipientGroup } from '../model/recipient-group.js';
import type { ConditionCost } from '../subscriptions/condition-budget.js';
import type { PersonalSubscriptions } from '../subscriptions/personal-subscriptions.js';
import type { Subscription } from '../subscriptions/subscription.js';
import type { Authorizer } from '../visibility/authorizer.js';
import type { RolePrivileges } from '../visibility/role-privileges.js';
import type { BatchOutcomes, UndeliveredReason } from './batch-outcomes.js';
import { ConditionMatches, type FailedCondition } from './condition-matches.js';
import { type FilterMatches, RoleMatches } from './filter-matches.js';
import type { GroupDeliveries } from './group-deliveries.js';
import type { MessageListBuilder } from './message-list-builder.js';
import type { TableRecipients } from './recipients.js';
import type { RoleRecipients } from './role-recipients.js';
import { RowVisibility } from './row-visibility.js';
import { canRead, type RoleView, SeenConditions } from './seen-conditions.js';
import type { SubscriptionEntry, SubscriptionIndex } from './subscription-index.js';
import { SubscriptionIndexes } from './subscription-indexes.js';
import type { TableBatch } from './table-batch.js';

/** Counts evaluated rows, filtered changes and errors; read when metrics are scraped. */
interface RoutingCounters {
  rowsEvaluated: number;
  changesFiltered: number;
  changeErrors: number;
}

export interface TableRouterParts {
  readonly authorizer: Authorizer;
  readonly personal: Pick<PersonalSubscriptions, 'byTable' | 'version'>;
  readonly subscriptions: { byTable(oid: number): readonly Subscription[] };
  readonly counters: RoutingCounters;
}

/** What routing adds to the result of a batch, beside the messages. */
interface BatchResult {
  readonly deliveries: GroupDeliveries;
  readonly outcomes: BatchOutcomes;
  /** What the conditions cost that PostgreSQL evaluated. */
  readonly costs: ConditionCost<SubscriptionEntry>[];
}

/**
 * Routes the changes of one table: finds the recipient groups that get each of them. First evaluates in process what
 * can be, then who sees which row, and then in PostgreSQL the conditions that are still open, only on rows that
 * somebody with the condition sees. So nobody learns anything of a hidden row by a result, an error or the time of a
 * condition.
 */
export class TableRouter {
  readonly #parts: TableRouterParts;
  readonly #indexes: SubscriptionIndexes;

  constructor(parts: TableRouterParts) {
    this.#parts = parts;
    this.#indexes = new SubscriptionIndexes(parts);
  }

  /** `xids`: the transactions of the whole batch. Throws StaleFacts if the catalog has changed meanwhile. */
  async route(
    tableBatch: TableBatch,
    tableRecipients: TableRecipients,
    lists: MessageListBuilder,
    xids: readonly number[],
    result: BatchResult,
  ): Promise<void> {
    const { facts } = tableBatch.layout;
    const subscriptions = await this.#indexes.of(facts);
    if (subscriptions.isEmpty) return;
    const conditions = await ConditionMatches.inProcess(tableBatch, subscriptions);
    const possible = new RoleMatches(facts, subscriptions, conditions);
    const views = await this.#viewsOf(tableBatch, tableRecipients, possible, xids);
    this.#recordPolicyFailures(tableBatch, possible, views, result);
    const matches = await this.#withSeen(tableBatch, subscriptions, conditions, possible, views, result);
    for (const view of views) this.#deliver(tableBatch, matches.of(view), view, lists);
    result.outcomes.add(tableBatch, subscriptions, matches.ofAllColumns, (entry) =>
      undeliveredReasonOf(entry, views),
    );
  }

  /** Returns who sees the rows that may match, by role. */
  async #viewsOf(
    tableBatch: TableBatch,
    tableRecipients: TableRecipients,
    possible: RoleMatches,
    xids: readonly number[],
  ): Promise<RoleView[]> {
    const { authorizer } = this.#parts;
    const views: RoleView[] = [];
    for (const [role, recipients] of tableRecipients.byRole) {
      const privileges = await authorizer.privileges(tableBatch.layout.facts, role);
      const rows = privileges.canSelect ? privileges.rows : 'none';
      const visibility =
        rows === 'filtered'
          ? await RowVisibility.of(
              authorizer,
              tableBatch,
              possible.of({ privileges }),
              recipients,
              privileges,
              xids,
            )
          : rows;
      views.push({ recipients, privileges, visibility });
    }
    return views;
  }

  /**
   * Has PostgreSQL evaluate the open conditions on the rows that somebody sees who has them. Returns what matches after
   * that: `possible` if nothing was open.
   */
  async #withSeen(
    tableBatch: TableBatch,
    subscriptions: SubscriptionIndex,
    conditions: ConditionMatches,
    possible: RoleMatches,
    views: readonly RoleView[],
    result: BatchResult,
  ): Promise<RoleMatches> {
    if (conditions.open.size === 0) return possible;
    const { authorizer } = this.#parts;
    const seen = new SeenConditions(tableBatch, views);
    const first = await conditions.evaluateSeen(authorizer, seen.of(conditions.open));
    const slow = first.tooSlow.flatMap((condition) => seen.byAudience(condition));
    const second = await conditions.evaluateSeen(authorizer, slow);
    result.costs.push(...first.costs, ...second.costs);
    this.#recordConditionFailures(tableBatch, [...first.failed, ...second.failed], seen, result);
    return new RoleMatches(tableBatch.layout.facts, subscriptions, conditions);
  }

  /** Delivers matching changes to the viewers of one role that see them. */
  #deliver(tableBatch: TableBatch, matches: FilterMatches, view: RoleView, lists: MessageListBuilder): void {
    const { recipients, privileges, visibility } = view;
    if (visibility === 'none')
      this.#parts.counters.changesFiltered += tableBatch.changes.filter((change) =>
        matches.hasMatch(change),
      ).length;
    else if (visibility === 'all') deliverToAll(tableBatch, matches, recipients, privileges, lists);
    else this.#deliverByPolicies(tableBatch, matches, visibility, privileges, lists);
  }

  #deliverByPolicies(
    tableBatch: TableBatch,
    matches: FilterMatches,
    visibility: RowVisibility,
    privileges: RolePrivileges,
    lists: MessageListBuilder,
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
  }

  /**
   * Records which subscriptions have policies that failed. `possible`: what an open condition is on a row does not matter,
   * since those who do not see the row must not learn it.
   */
  #recordPolicyFailures(
    tableBatch: TableBatch,
    possible: RoleMatches,
    views: readonly RoleView[],
    { deliveries, outcomes }: BatchResult,
  ): void {
    for (const view of views) {
      if (typeof view.visibility === 'string') continue;
      const matches = possible.of(view);
      for (const [tableViewer, rows] of view.visibility.failed) {
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

  /** Records which subscriptions have a condition that failed, for the recipients that see where. */
  #recordConditionFailures(
    tableBatch: TableBatch,
    failed: readonly FailedCondition[],
    seen: SeenConditions,
    { deliveries, outcomes }: BatchResult,
  ): void {
    this.#parts.counters.changeErrors += failed.length;
    for (const { group, rows } of failed)
      for (const row of rows)
        for (const [recipientGroup, { subscription }] of seen.recipientsOf(group, row)) {
          deliveries.of(recipientGroup).failed.set(subscription, tableBatch.layout.facts);
          const change = seen.changeOf(row);
          if (change !== undefined) outcomes.conditionFailed(subscription, change);
        }
  }
}

/** Returns the reason that counts for a matching change that no member gets. */
function undeliveredReasonOf(
  { target, subscription }: SubscriptionEntry,
  views: readonly RoleView[],
): UndeliveredReason {
  const withMembers = views.filter(({ recipients }) => recipients.hasAny(target));
  if (withMembers.length === 0) return 'unheard';
  const conditionColumns = subscription.condition?.columns ?? [];
  return withMembers.some(({ privileges }) => canRead(privileges, conditionColumns)) ? 'policy' : 'privilege';
}

/**
 * Routes matching changes of a role that row level security does not apply to: the groups of a channel share
 * one list.
 */
function deliverToAll(
  tableBatch: TableBatch,
  matches: FilterMatches,
  recipients: RoleRecipients,
  privileges: RolePrivileges,
  lists: MessageListBuilder,
): void {
  for (const change of tableBatch.changes) {
    const ownedGroups = new Set<RecipientGroup>();
    for (const target of matches.targets(change)) {
      const sharedGroups = typeof target === 'string' ? recipients.sharedGroups.get(target) : undefined;
      const [first] = sharedGroups ?? [];
      const match = first === undefined ? undefined : matches.of(change, first);
      if (sharedGroups !== undefined && match !== undefined) lists.addShared(sharedGroups, match, privileges);
      for (const group of recipients.ownedGroupsOf(target)) ownedGroups.add(group);
    }
    // A change that matches a channel's and a personal subscription makes one message.
    for (const group of ownedGroups) {
      const match = matches.of(change, group);
      if (match !== undefined) lists.add(group, match, privileges, () => true);
    }
  }
}
