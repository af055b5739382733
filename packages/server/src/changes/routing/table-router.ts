import { settleAll } from '../../lib/settle-all.js';
import type { RecipientGroup } from '../model/recipient-group.js';
import type { TableFacts } from '../model/table-facts.js';
import type { ConditionCost } from '../subscriptions/condition-budget.js';
import type { PersonalSubscriptions } from '../subscriptions/personal-subscriptions.js';
import type { Subscription } from '../subscriptions/subscription.js';
import type { Authorizer } from '../visibility/authorizer.js';
import type { Deadline } from '../visibility/deadline.js';
import type { RolePrivileges } from '../visibility/role-privileges.js';
import type { BatchOutcomes, UndeliveredReason } from './batch-outcomes.js';
import { ConditionMatches, type FailedCondition, type SeenCondition } from './condition-matches.js';
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
import type { UndecidedGroups } from './undecided-groups.js';

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
  readonly undecided: UndecidedGroups;
}

/** What the tables of a batch have in common. */
export interface TableRouting {
  readonly lists: MessageListBuilder;
  /** The transactions of the whole batch. */
  readonly xids: readonly number[];
  readonly deadline: Deadline | undefined;
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

  /** Has the subscriptions of a table indexed ahead of its next change. */
  async prepare(facts: TableFacts): Promise<void> {
    await this.#indexes.of(facts);
  }

  /** Throws StaleFacts if the catalog has changed meanwhile, NotDecided if that is not known at the deadline. */
  async route(
    tableBatch: TableBatch,
    tableRecipients: TableRecipients,
    { lists, xids, deadline }: TableRouting,
    result: BatchResult,
  ): Promise<void> {
    const { facts } = tableBatch.layout;
    const subscriptions = await this.#indexes.of(facts, deadline);
    if (subscriptions.isEmpty) return;
    const conditions = await ConditionMatches.inProcess(tableBatch, subscriptions);
    const possible = new RoleMatches(facts, subscriptions, conditions);
    const views = await this.#viewsOf(tableBatch, tableRecipients, possible, xids, deadline);
    for (const { visibility } of views)
      if (typeof visibility !== 'string') result.undecided.addViewers(visibility.undecided);
    this.#recordPolicyFailures(tableBatch, possible, views, result);
    const open = { tableBatch, subscriptions, conditions, possible };
    const matches = await this.#withSeen(open, views, result, deadline);
    for (const view of views) this.#deliver(tableBatch, matches.of(view), view, lists);
    result.outcomes.add(tableBatch, subscriptions, matches.ofAllColumns, (entry) =>
      undeliveredReasonOf(entry, views),
    );
  }

  /** Returns who sees the rows that may match, by role. Asks PostgreSQL about all roles at once. */
  async #viewsOf(
    tableBatch: TableBatch,
    tableRecipients: TableRecipients,
    possible: RoleMatches,
    xids: readonly number[],
    deadline: Deadline | undefined,
  ): Promise<RoleView[]> {
    const { authorizer } = this.#parts;
    const viewOf = async (role: string, recipients: RoleRecipients): Promise<RoleView> => {
      const privileges = await authorizer.privileges(tableBatch.layout.facts, role, deadline);
      const rows = privileges.canSelect ? privileges.rows : 'none';
      if (rows !== 'filtered') return { recipients, privileges, visibility: rows };
      const matches = possible.of({ privileges });
      const visibility = await RowVisibility.of(
        authorizer,
        tableBatch,
        matches,
        recipients,
        privileges,
        xids,
        deadline,
      );
      return { recipients, privileges, visibility };
    };
    return settleAll([...tableRecipients.byRole].map(([role, recipients]) => viewOf(role, recipients)));
  }

  /**
   * Has PostgreSQL evaluate the open conditions on the rows that somebody sees who has them. Returns what matches after
   * that: `possible` if nothing was open.
   */
  async #withSeen(
    { tableBatch, subscriptions, conditions, possible }: OpenConditions,
    views: readonly RoleView[],
    result: BatchResult,
    deadline: Deadline | undefined,
  ): Promise<RoleMatches> {
    if (conditions.open.size === 0) return possible;
    const seen = new SeenConditions(tableBatch, views);
    const ask = async (asked: readonly SeenCondition[]) => {
      const answers = await conditions.evaluateSeen(this.#parts.authorizer, asked, deadline);
      this.#recordConditionFailures(tableBatch, answers.failed, seen, result);
      result.costs.push(...answers.costs);
      for (const { group, rows } of asked) {
        const why = answers.undecided.get(group);
        if (why === undefined) continue;
        // Only those wait for the condition who see a row that it is evaluated on.
        for (const row of rows)
          for (const [recipientGroup] of seen.recipientsOf(group, row))
            result.undecided.add(recipientGroup, why);
      }
      return answers.tooSlow;
    };
    const tooSlow = await ask(seen.of(conditions.open));
    await ask(tooSlow.flatMap((condition) => seen.byAudience(condition)));
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
        if (visibility.undecided.has(tableViewer)) continue;
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

/** The conditions of a table batch, as far as they are decided in process. */
interface OpenConditions {
  readonly tableBatch: TableBatch;
  readonly subscriptions: SubscriptionIndex;
  readonly conditions: ConditionMatches;
  /** What matches if the open conditions are true. */
  readonly possible: RoleMatches;
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
