import { ProtocolError } from '@goforward/realtime-protocol';
import { SYSTEM_USER } from '../../auth/identity.js';
import type { MessageEncoder } from '../../channels/message-encoder.js';
import type { Subscriber } from '../../channels/subscriber.js';
import type { Clock } from '../../lib/clock.js';
import { JsonText } from '../../lib/json-text.js';
import type { StreamedChange } from '../log/packed-changes.js';
import { comparePositions, type Position } from '../model/position.js';
import type { TableFacts } from '../model/table-facts.js';
import type { GroupDelivery, MessageList } from '../routing/group-deliveries.js';
import { FrameChunks } from './frame-chunks.js';
import type { MemberFeeds, RetainedBatch } from './member-feeds.js';
import type { ReceivedCounts } from './received-counts.js';

/** Counts delivered messages; read when metrics are scraped. */
interface DeliveryCounters {
  deliveries: number;
  changesDelivered: number;
}

export interface DeliveryParts {
  readonly feeds: MemberFeeds;
  readonly encoder: MessageEncoder;
  readonly counters: DeliveryCounters;
  readonly received: Pick<ReceivedCounts, 'startDelivery'>;
  readonly clock: Clock;
}

/** The shortest time between two reports of the same failing policy or condition, in ms. */
const REPEAT_REPORT_MS = 30_000;

/** Delivers routed messages to members, and messages of the server: errors, snapshot rows, gaps. */
export class Delivery {
  readonly #parts: DeliveryParts;
  /**
   * The failing policies and conditions that each member was sent a POLICY_ERROR for, by subscription id: one
   * error for each subscription and state of the catalog.
   */
  readonly #reportedFailures = new WeakMap<
    Subscriber,
    Map<string, { readonly facts: TableFacts; readonly at: number }>
  >();

  constructor(parts: DeliveryParts) {
    this.#parts = parts;
  }

  /**
   * Delivers the routed messages of `changes`. `positionOf` decides for each member: after which position it
   * gets messages, undefined for all of them, or 'skip' for none.
   */
  deliver(
    groupDeliveries: Iterable<GroupDelivery>,
    changes: readonly StreamedChange[],
    positionOf: (member: Subscriber) => Position | 'skip' | undefined,
    batch: RetainedBatch,
  ): void {
    const chunks = new FrameChunks();
    const countReceived = this.#parts.received.startDelivery();
    for (const groupDelivery of groupDeliveries) {
      const { channel, members } = groupDelivery.group;
      for (const member of members) {
        if (!channel.audience.has(member)) continue;
        const position = positionOf(member);
        if (position === 'skip') continue;
        if (groupDelivery.failed.size > 0) this.#reportFailures(member, groupDelivery, batch);
        const hasAll = position === undefined || isAfter(changes[0], position);
        const lists = hasAll ? groupDelivery.lists : messagesAfter(groupDelivery.lists, changes, position);
        const count = lists.reduce((sum, list) => sum + list.length, 0);
        if (count === 0) continue;
        this.#parts.feeds.deliver(member, chunks.of(lists), batch);
        countReceived(member, lists);
        this.#parts.counters.deliveries += count;
        this.#parts.counters.changesDelivered += count;
      }
    }
  }

  /** Lets failures be reported again to a member whose claims have changed. */
  forgetReportedFailures(member: Subscriber): void {
    this.#reportedFailures.delete(member);
  }

  /** Sends a member a message of the server. */
  send(member: Subscriber, event: string, payload: unknown, batch: RetainedBatch): void {
    this.#parts.feeds.deliver(member, [this.systemMessage(event, payload)], batch);
  }

  /**
   * Sends a member a page of snapshot rows. The rows are JSON texts separated by commas, so that values stay exactly as
   * PostgreSQL wrote them. Returns the size of the message in bytes.
   */
  sendRows(
    member: Subscriber,
    { subscription_id, more }: { readonly subscription_id: string; readonly more: boolean },
    rows: string,
    batch: RetainedBatch,
  ): number {
    const payload = { subscription_id, rows: new JsonText(`[${rows}]`), more };
    const message = this.systemMessage('snapshot', payload);
    this.#parts.feeds.deliver(member, [message], batch);
    return message.length;
  }

  /** Encodes a message of the server. */
  systemMessage(event: string, payload: unknown): Buffer {
    const { encoder } = this.#parts;
    return encoder.encode(encoder.message('system', event, payload, SYSTEM_USER));
  }

  #reportFailures(member: Subscriber, groupDelivery: GroupDelivery, batch: RetainedBatch): void {
    const now = this.#parts.clock();
    let reported = this.#reportedFailures.get(member);
    if (reported === undefined) {
      reported = new Map();
      this.#reportedFailures.set(member, reported);
    }
    for (const [{ id }, facts] of groupDelivery.failed) {
      const last = reported.get(id);
      // New facts may come from a catalog change that does not concern this table: hence the time limit.
      if (last !== undefined && (last.facts === facts || now - last.at < REPEAT_REPORT_MS)) continue;
      reported.set(id, { facts, at: now });
      const { body } = new ProtocolError('POLICY_ERROR', { fields: { subscription_id: id } });
      this.send(member, 'error', body, batch);
    }
  }
}

function messagesAfter(
  lists: readonly MessageList[],
  changes: readonly StreamedChange[],
  position: Position,
): readonly MessageList[] {
  return lists.map((list) => list.filter(({ batchIndex }) => isAfter(changes[batchIndex], position)));
}

function isAfter(change: StreamedChange | undefined, position: Position): boolean {
  if (change === undefined) return false;
  return comparePositions({ commitLsn: change.transaction.commitLsn, index: change.index }, position) > 0;
}
