import type { Channel } from '../../channels/channel.js';
import { settleAll } from '../../lib/settle-all.js';
import type { StreamedChange, StreamedMessage } from '../log/packed-changes.js';
import type { SqlMessages } from '../log/sql-messages.js';
import type { RecipientGroup, SubscriptionTarget } from '../model/recipient-group.js';
import type { TableFacts } from '../model/table-facts.js';
import type { ChangeOutcomes } from '../subscriptions/change-counts.js';
import type { PersonalSubscriptions } from '../subscriptions/personal-subscriptions.js';
import type { Subscription } from '../subscriptions/subscription.js';
import type { ValueFormats } from '../values/value-formats.js';
import type { Authorizer, Undecided } from '../visibility/authorizer.js';
import type { Deadline } from '../visibility/deadline.js';
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
import { UndecidedGroups } from './undecided-groups.js';

/** Counts evaluated rows, filtered changes and errors; read when metrics are scraped. */
interface RoutingCounters {
  rowsEvaluated: number;
  changesFiltered: number;
  changeErrors: number;
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
}

/** The result of routing a batch. */
export interface RoutedBatch {
  readonly deliveries: Iterable<GroupDelivery>;
  readonly delivered: DeliveredChanges;
  readonly outcomes: ChangeOutcomes;
  /** The groups for which the batch was not decided at its deadline. There is no delivery to them. */
  readonly undecided: ReadonlyMap<RecipientGroup, Undecided>;
}

/** How many viewers are prepared in one step: few enough that a batch hardly waits for them. */
const VIEWERS_PER_PREPARATION = 100;

/** Collects the result while a batch is routed. */
interface BatchResult {
  readonly deliveries: GroupDeliveries;
  readonly delivered: DeliveredChanges;
  readonly outcomes: BatchOutcomes;
  readonly undecided: UndecidedGroups;
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

  /**
   * Returns the messages of each recipient group. With a deadline, PostgreSQL is asked about all tables and roles at
   * once, and groups for which it has not answered by then are undecided. Throws StaleFacts if the catalog has changed
   * meanwhile, before the deadline.
   */
  async route(
    epoch: string,
    changes: readonly StreamedChange[],
    recipients: Recipients,
    deadline?: Deadline,
  ): Promise<RoutedBatch> {
    const { encoder, layouts, formats } = this.#parts;
    const result: BatchResult = {
      deliveries: new GroupDeliveries(),
      delivered: new Map(),
      outcomes: new BatchOutcomes(),
      undecided: new UndecidedGroups(),
    };
    const { deliveries, delivered, outcomes, undecided } = result;
    const segments = await segmentsOf(changes, recipients, { layouts, formats, deadline }, (oid) =>
      undecided.addTable(recipients.ofTable(oid)),
    );
    const hasRecipients = ({ layout: { facts } }: TableBatch) =>
      recipients.ofTable(facts.oid).byRole.size > 0;
    const tables = new Set(segments.flatMap((segment) => segment.filter(hasRecipients).map(factsOf)));
    const xids = distinctXids(changes);
    const unverified = await this.#unverified([...tables], xids, deadline);
    for (const { oid } of unverified) undecided.addTable(recipients.ofTable(oid));
    const listsByLayout = new Map<TableLayout, MessageListBuilder>();
    for (const segment of segments) {
      // The rows of a transaction are visible by its own membership changes.
      for (const tableBatch of segment)
        if (unverified.has(tableBatch.layout.facts)) recipients.invalidateMemberships();
        else recipients.tableChanged(tableBatch);
      const routing: Promise<void>[] = [];
      for (const tableBatch of segment.filter(hasRecipients)) {
        const { layout } = tableBatch;
        if (unverified.has(layout.facts)) continue;
        const lists =
          listsByLayout.get(layout) ??
          new MessageListBuilder(new ChangeFrames(epoch, layout, encoder), delivered);
        listsByLayout.set(layout, lists);
        const tableRecipients = recipients.ofTable(layout.facts.oid);
        routing.push(
          this.#routeTable(tableBatch, tableRecipients, { lists, xids, deadline }, result).catch((error) => {
            if (deadline?.excuses(error) !== true) throw error;
            undecided.addTable(tableRecipients);
          }),
        );
      }
      await settleAll(routing);
    }
    for (const lists of listsByLayout.values()) lists.finish(deliveries);
    for (const [batchIndex, change] of changes.entries())
      if (change.kind === 'message') this.#routeMessage(epoch, change, batchIndex, recipients, deliveries);
    for (const group of undecided.all.keys()) deliveries.remove(group);
    return {
      deliveries: deliveries.all(),
      delivered,
      outcomes: outcomes.finish(delivered),
      undecided: undecided.all,
    };
  }

  /** Returns the tables of which it is not known at the deadline whether these facts are current. */
  async #unverified(
    tables: readonly TableFacts[],
    xids: readonly number[],
    deadline: Deadline | undefined,
  ): Promise<ReadonlySet<TableFacts>> {
    const { authorizer } = this.#parts;
    const unverified = new Set<TableFacts>();
    try {
      await authorizer.verify(tables, xids, deadline);
      return unverified;
    } catch (error) {
      if (deadline?.excuses(error) !== true) throw error;
      if (tables.length === 1) return new Set(tables);
    }
    for (const table of tables)
      for (const each of await this.#unverified([table], xids, deadline)) unverified.add(each);
    return unverified;
  }

  /**
   * Evaluates the policy parameters of some new recipients of a table, so that its next change does not wait
   * for them. Returns false if there are none left, but for those that are not evaluated before the deadline. Throws
   * StaleFacts.
   */
  async prepare(oid: number, recipients: Recipients, deadline: Deadline): Promise<boolean> {
    const { authorizer } = this.#parts;
    for (const [role, roleRecipients] of recipients.ofTable(oid).byRole) {
      const facts = await authorizer.facts(oid);
      if (facts === undefined) return false;
      const { rows, policyCompilation } = await authorizer.privileges(facts, role);
      if (rows !== 'filtered' || !('compiled' in policyCompilation)) continue;
      const evaluateParameters: EvaluateParameters = (viewers, xids) =>
        authorizer.evaluateParameters(facts, role, viewers, xids, deadline);
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
      deliveries.of(group).lists.push([{ batchIndex, frame }]);
  }

  async #routeTable(
    tableBatch: TableBatch,
    tableRecipients: TableRecipients,
    { lists, xids, deadline }: TableRouting,
    result: BatchResult,
  ): Promise<void> {
    const { authorizer, counters } = this.#parts;
    const { facts } = tableBatch.layout;
    const subscriptions = await this.#subscriptions.of(facts, deadline);
    if (subscriptions.isEmpty) return;
    const conditions = await ConditionMatches.of(authorizer, tableBatch, subscriptions, deadline);
    addFollowers(result.undecided, conditions, tableRecipients);
    this.#recordConditionFailures(tableBatch, conditions, tableRecipients, result);
    const matchesFor = (columns: ReadonlySet<string>) =>
      new FilterMatches(subscriptions, conditions, columns);
    const all = matchesFor(new Set(facts.columns.map(({ name }) => name)));
    const roles: RoleAccess[] = [];
    const evaluating: Promise<void>[] = [];
    for (const [role, recipients] of tableRecipients.byRole) {
      const privileges = await authorizer.privileges(facts, role, deadline);
      const matches = facts.columns.every(({ name }) => privileges.columns.has(name))
        ? all
        : matchesFor(privileges.columns);
      roles.push({ recipients, privileges });
      if (!privileges.canSelect || privileges.rows === 'none')
        counters.changesFiltered += tableBatch.changes.filter((change) => matches.hasMatch(change)).length;
      else if (privileges.rows === 'all')
        deliverToAll(tableBatch, subscriptions, matches, recipients, privileges, lists);
      else
        evaluating.push(
          RowVisibility.of(authorizer, tableBatch, matches, recipients, privileges, xids, deadline).then(
            (visibility) => this.#routeByPolicies(tableBatch, matches, visibility, privileges, lists, result),
          ),
        );
    }
    await settleAll(evaluating);
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
    result.undecided.addViewers(visibility.undecided);
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

/** What the routing of a table shares with that of the other tables of its batch. */
interface TableRouting {
  readonly lists: MessageListBuilder;
  readonly xids: readonly number[];
  readonly deadline: Deadline | undefined;
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

/** Adds the groups that follow a condition of which it is not known where it is true. */
function addFollowers(
  undecided: UndecidedGroups,
  conditions: ConditionMatches,
  { byRole }: TableRecipients,
): void {
  for (const [{ entries }, why] of conditions.undecided)
    for (const { target } of entries)
      for (const recipients of byRole.values())
        for (const group of recipients.groupsOf(target)) undecided.add(group, why);
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
