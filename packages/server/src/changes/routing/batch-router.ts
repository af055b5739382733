import type { Channel } from '../../channels/channel.js';
import type { StreamedChange, StreamedMessage } from '../log/packed-changes.js';
import type { SqlMessages } from '../log/sql-messages.js';
import type { TableFacts } from '../model/table-facts.js';
import type { ChangeOutcomes } from '../subscriptions/change-counts.js';
import type { ConditionCost } from '../subscriptions/condition-budget.js';
import type { ValueFormats } from '../values/value-formats.js';
import { BatchOutcomes } from './batch-outcomes.js';
import { segmentsOf } from './batch-segments.js';
import type { ChangeEncoder } from './change-encoder.js';
import { ChangeFrames } from './change-frames.js';
import { GroupDeliveries, type GroupDelivery } from './group-deliveries.js';
import { type DeliveredChanges, MessageListBuilder } from './message-list-builder.js';
import type { Recipients } from './recipients.js';
import type { EvaluateParameters } from './role-recipients.js';
import type { SubscriptionEntry } from './subscription-index.js';
import type { TableBatch } from './table-batch.js';
import type { TableLayout } from './table-layout.js';
import type { TableLayouts } from './table-layouts.js';
import { TableRouter, type TableRouterParts } from './table-router.js';

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

/** The result of routing a batch. */
export interface RoutedBatch {
  readonly deliveries: Iterable<GroupDelivery>;
  readonly delivered: DeliveredChanges;
  readonly outcomes: ChangeOutcomes;
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

  constructor(parts: BatchRouterParts) {
    this.#parts = parts;
    this.#tables = new TableRouter(parts);
  }

  /** Returns the messages of each recipient group. Throws StaleFacts if the catalog has changed meanwhile. */
  async route(
    { epoch, changes, catalogXids, mustAskCatalog }: RoutingRequest,
    recipients: Recipients,
  ): Promise<RoutedBatch> {
    const { authorizer, encoder, layouts, formats, maxChangeBytes, counters } = this.#parts;
    const deliveries = new GroupDeliveries();
    const delivered: DeliveredChanges = new Map();
    const outcomes = new BatchOutcomes();
    const costs: ConditionCost<SubscriptionEntry>[] = [];
    const result = { deliveries, outcomes, costs };
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
        await this.#tables.route(tableBatch, recipients.ofTable(layout.facts.oid), lists, xids, result);
      }
    }
    for (const lists of listsByLayout.values()) {
      lists.finish(deliveries);
      counters.changesTooLarge += lists.tooLargeCount;
    }
    for (const [batchIndex, change] of changes.entries())
      if (change.kind === 'message') this.#routeMessage(epoch, change, batchIndex, recipients, deliveries);
    return { deliveries: deliveries.all(), delivered, outcomes: outcomes.finish(delivered), costs };
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
}

function factsOf({ layout }: TableBatch): TableFacts {
  return layout.facts;
}

function distinctXids(changes: readonly StreamedChange[]): number[] {
  return [...new Set(changes.map(({ transaction }) => transaction.xid))];
}
