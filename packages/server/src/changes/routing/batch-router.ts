import type { Channel } from '../../channels/channel.js';
import { settleAll } from '../../lib/settle-all.js';
import type { StreamedChange, StreamedMessage } from '../log/packed-changes.js';
import type { SqlMessages } from '../log/sql-messages.js';
import type { RecipientGroup, SubscriptionTarget } from '../model/recipient-group.js';
import type { TableFacts } from '../model/table-facts.js';
import type { ChangeOutcomes } from '../subscriptions/change-counts.js';
import type { ConditionCost } from '../subscriptions/condition-budget.js';
import type { Subscription } from '../subscriptions/subscription.js';
import type { ValueFormats } from '../values/value-formats.js';
import type { Undecided } from '../visibility/authorizer.js';
import type { Deadline } from '../visibility/deadline.js';
import type { RolePrivileges } from '../visibility/role-privileges.js';
import { BatchOutcomes } from './batch-outcomes.js';
import { segmentsOf } from './batch-segments.js';
import type { ChangeEncoder } from './change-encoder.js';
import { ChangeFrames } from './change-frames.js';
import { GroupDeliveries, type GroupDelivery } from './group-deliveries.js';
import { type DeliveredChanges, MessageListBuilder } from './message-list-builder.js';
import type { Recipients } from './recipients.js';
import type { EvaluateParameters, RoleRecipients } from './role-recipients.js';
import type { SubscriptionEntry } from './subscription-index.js';
import type { TableBatch } from './table-batch.js';
import type { TableLayout } from './table-layout.js';
import type { TableLayouts } from './table-layouts.js';
import { TableRouter, type TableRouterParts } from './table-router.js';
import { UndecidedGroups } from './undecided-groups.js';

export interface BatchRouterParts extends TableRouterParts {
  readonly layouts: TableLayouts;
  readonly formats: ValueFormats;
  readonly encoder: ChangeEncoder;
  readonly messages: Pick<SqlMessages, 'read' | 'encode'>;
  /** Returns the channel; undefined if it no longer exists. */
  readonly channel: (name: string) => Channel | undefined;
  readonly counters: TableRouterParts['counters'] & { changesTooLarge: number };
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

interface CatalogCheck extends Pick<RoutingRequest, 'catalogXids' | 'mustAskCatalog'> {
  readonly deadline: Deadline | undefined;
}

/** The result of routing a batch. */
export interface RoutedBatch {
  readonly deliveries: Iterable<GroupDelivery>;
  readonly delivered: DeliveredChanges;
  readonly outcomes: ChangeOutcomes<Subscription>;
  /** The targets of these subscriptions. */
  readonly targets: ReadonlyMap<Subscription, SubscriptionTarget>;
  /** The groups for which the batch was not decided at its deadline. There is no delivery to them. */
  readonly undecided: ReadonlyMap<RecipientGroup, Undecided>;
  /** What the conditions cost that PostgreSQL evaluated. */
  readonly costs: readonly ConditionCost<SubscriptionEntry>[];
}

/** How many viewers are prepared in one step: few enough that a batch hardly waits for them. */
const VIEWERS_PER_PREPARATION = 100;

/**
 * Routes a batch of changes to recipient groups. A group gets a change if a subscription and its condition
 * match, the role has the privileges, and the policies of row level security show the row to the group's
 * viewer.
 */
export class BatchRouter {
  readonly #parts: BatchRouterParts;
  readonly #tables: TableRouter;
  /** Privileges whose policies PostgreSQL has evaluated ahead of the first change. */
  readonly #prepared = new WeakSet<RolePrivileges>();

  constructor(parts: BatchRouterParts) {
    this.#parts = parts;
    this.#tables = new TableRouter(parts);
  }

  /**
   * Returns the messages of each recipient group. With a deadline, PostgreSQL is asked about all tables and roles at
   * once, and groups for which it has not answered by then are undecided. Throws StaleFacts if the catalog has changed
   * meanwhile, before the deadline.
   */
  async route(
    { epoch, changes, catalogXids, mustAskCatalog }: RoutingRequest,
    recipients: Recipients,
    deadline?: Deadline,
  ): Promise<RoutedBatch> {
    const { encoder, layouts, formats, maxChangeBytes, counters } = this.#parts;
    const deliveries = new GroupDeliveries();
    const delivered: DeliveredChanges = new Map();
    const outcomes = new BatchOutcomes();
    const undecided = new UndecidedGroups();
    const costs: ConditionCost<SubscriptionEntry>[] = [];
    const result = { deliveries, outcomes, undecided, costs };
    const segments = await segmentsOf(changes, recipients, { layouts, formats, deadline }, (oid) =>
      undecided.addTable(recipients.ofTable(oid)),
    );
    const hasRecipients = ({ layout: { facts } }: TableBatch) =>
      recipients.ofTable(facts.oid).byRole.size > 0;
    const tables = new Set(segments.flatMap((segment) => segment.filter(hasRecipients).map(factsOf)));
    const xids = distinctXids(changes);
    const unverified = await this.#unverified([...tables], { catalogXids, mustAskCatalog, deadline });
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
          new MessageListBuilder(
            new ChangeFrames(epoch, layout, encoder, maxChangeBytes),
            delivered,
            (subscription, change) => outcomes.tooLarge(subscription, change),
          );
        listsByLayout.set(layout, lists);
        const tableRecipients = recipients.ofTable(layout.facts.oid);
        routing.push(
          this.#tables
            .route(tableBatch, tableRecipients, { lists, xids, deadline }, result)
            .catch((error: unknown) => {
              if (deadline?.excuses(error) !== true) throw error;
              undecided.addTable(tableRecipients);
            }),
        );
      }
      await settleAll(routing);
    }
    for (const lists of listsByLayout.values()) {
      lists.finish(deliveries);
      counters.changesTooLarge += lists.tooLargeCount;
    }
    for (const [batchIndex, change] of changes.entries())
      if (change.kind === 'message') this.#routeMessage(epoch, change, batchIndex, recipients, deliveries);
    for (const group of undecided.all.keys()) deliveries.remove(group);
    return {
      deliveries: deliveries.all(),
      delivered,
      outcomes: outcomes.finish(delivered),
      targets: outcomes.targets,
      undecided: undecided.all,
      costs,
    };
  }

  /** Returns the tables of which it is not known at the deadline whether these facts are current. */
  async #unverified(tables: readonly TableFacts[], check: CatalogCheck): Promise<ReadonlySet<TableFacts>> {
    const { catalogXids, mustAskCatalog, deadline } = check;
    const unverified = new Set<TableFacts>();
    try {
      await this.#parts.authorizer.verify(tables, catalogXids, mustAskCatalog, deadline);
      return unverified;
    } catch (error) {
      if (deadline?.excuses(error) !== true) throw error;
      if (tables.length === 1) return new Set(tables);
    }
    for (const table of tables)
      for (const each of await this.#unverified([table], check)) unverified.add(each);
    return unverified;
  }

  /**
   * Reads what the next change of a table needs from the catalog, and evaluates the policy parameters of some new
   * recipients, so that the change does not wait for them. Returns false if there is none left. Throws StaleFacts.
   */
  async prepare(oid: number, recipients: Recipients): Promise<boolean> {
    const { authorizer, formats } = this.#parts;
    const { byRole } = recipients.ofTable(oid);
    const facts = byRole.size === 0 ? undefined : await authorizer.facts(oid);
    if (facts === undefined) return false;
    await formats.load(facts.columns.map(({ typeOid }) => typeOid));
    await this.#tables.prepare(facts);
    await authorizer.verify([facts], [], false);
    for (const [role, roleRecipients] of byRole) {
      const privileges = await authorizer.privileges(facts, role);
      const { rows, policyCompilation } = privileges;
      if (rows !== 'filtered') continue;
      if (!('compiled' in policyCompilation)) {
        await this.#prepareEvaluation(facts, privileges, roleRecipients);
        continue;
      }
      const evaluateParameters: EvaluateParameters = (viewers, xids) =>
        authorizer.evaluateParameters(facts, role, viewers, xids);
      if (await roleRecipients.prepare(policyCompilation, evaluateParameters, VIEWERS_PER_PREPARATION))
        return true;
    }
    return false;
  }

  /** Has PostgreSQL plan the evaluation of policies: on no row, for one viewer. */
  async #prepareEvaluation(
    facts: TableFacts,
    privileges: RolePrivileges,
    { viewers }: RoleRecipients,
  ): Promise<void> {
    const [first] = viewers.values();
    if (first === undefined || this.#prepared.has(privileges)) return;
    this.#prepared.add(privileges);
    await this.#parts.authorizer.evaluatePolicies(facts, [], [{ viewer: first.viewer, rows: [] }], []);
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
}

function factsOf({ layout }: TableBatch): TableFacts {
  return layout.facts;
}

function distinctXids(changes: readonly StreamedChange[]): number[] {
  return [...new Set(changes.map(({ transaction }) => transaction.xid))];
}
