import { ProtocolError } from '@goforward/realtime-protocol';
import { SYSTEM_USER } from '../../auth/identity.js';
import type { MessageEncoder } from '../../channels/message-encoder.js';
import type { Subscriber } from '../../channels/subscriber.js';
import type { Clock } from '../../lib/clock.js';
import type { StreamedChange } from '../log/packed-changes.js';
import { comparePositions, type Position } from '../model/position.js';
import type { TableFacts } from '../model/table-facts.js';
import type { GroupDelivery, MessageList } from '../routing/group-deliveries.js';
import { FrameChunks } from './frame-chunks.js';
import type { MemberFeeds, RetainedBatch } from './member-feeds.js';

/** Counts what members get; read when metrics are scraped. */
interface DeliveryCounters {
  deliveries: number;
  changesDelivered: number;
}

export interface DeliveryParts {
  readonly feeds: MemberFeeds;
  readonly encoder: MessageEncoder;
  readonly counters: DeliveryCounters;
  readonly clock: Clock;
}

/** What fails all the time is told again after so long, at the earliest, in ms. */
const REPORT_AGAIN_MS = 30_000;

/** Hands members what was found out to be theirs. */
export class Delivery {
  readonly #parts: DeliveryParts;
  /** What each member was told of policies and conditions that fail, and when: once for each subscription and state of the catalog. */
  readonly #reportedFailures = new WeakMap<
    Subscriber,
    Map<string, { readonly facts: TableFacts; readonly at: number }>
  >();

  constructor(parts: DeliveryParts) {
    this.#parts = parts;
  }

  /** Hands out messages of `changes`; a member gets those behind its place (undefined: all), or none at all. */
  deliver(
    groupDeliveries: Iterable<GroupDelivery>,
    changes: readonly StreamedChange[],
    positionOf: (member: Subscriber) => Position | 'skip' | undefined,
    hold: RetainedBatch,
  ): void {
    const chunks = new FrameChunks();
    for (const groupDelivery of groupDeliveries) {
      const { channel, members } = groupDelivery.group;
      for (const member of members) {
        if (!channel.audience.has(member)) continue;
        const position = positionOf(member);
        if (position === 'skip') continue;
        if (groupDelivery.failed.size > 0) this.#reportFailures(member, groupDelivery, hold);
        const hasAll = position === undefined || isAfter(changes[0], position);
        const lists = hasAll ? groupDelivery.lists : after(groupDelivery.lists, changes, position);
        const count = lists.reduce((sum, list) => sum + list.length, 0);
        if (count === 0) continue;
        this.#parts.feeds.deliver(member, chunks.of(lists), hold);
        this.#parts.counters.deliveries += count;
        this.#parts.counters.changesDelivered += count;
      }
    }
  }

  /** The member is told again of what fails: its claims are others. */
  forgetReportedFailures(member: Subscriber): void {
    this.#reportedFailures.delete(member);
  }

  /** Hands a member a message of the server. */
  send(member: Subscriber, event: string, payload: unknown, hold: RetainedBatch): void {
    this.#parts.feeds.deliver(member, [this.systemMessage(event, payload)], hold);
  }

  /** Hands a member rows that are JSON already: what is in them stays as PostgreSQL wrote it. */
  sendRows(
    member: Subscriber,
    { subscription_id, more }: { readonly subscription_id: string; readonly more: boolean },
    rows: readonly string[],
    hold: RetainedBatch,
  ): void {
    const { encoder, feeds } = this.#parts;
    const payload = { subscription_id, rows: [], more };
    const envelope = JSON.stringify(encoder.message('system', 'snapshot', payload, SYSTEM_USER));
    const text = envelope.replace('"rows":[]', () => `"rows":[${rows.join()}]`);
    feeds.deliver(member, [encoder.encodeText(text)], hold);
  }

  /** The bytes of a message of the server. */
  systemMessage(event: string, payload: unknown): Buffer {
    const { encoder } = this.#parts;
    return encoder.encode(encoder.message('system', event, payload, SYSTEM_USER));
  }

  #reportFailures(member: Subscriber, groupDelivery: GroupDelivery, hold: RetainedBatch): void {
    const now = this.#parts.clock();
    let reported = this.#reportedFailures.get(member);
    if (reported === undefined) {
      reported = new Map();
      this.#reportedFailures.set(member, reported);
    }
    for (const [{ id }, facts] of groupDelivery.failed) {
      const last = reported.get(id);
      // Much alters the catalog that has nothing to do with this table.
      if (last !== undefined && (last.facts === facts || now - last.at < REPORT_AGAIN_MS)) continue;
      reported.set(id, { facts, at: now });
      const { body } = new ProtocolError('POLICY_ERROR', { fields: { subscription_id: id } });
      this.send(member, 'error', body, hold);
    }
  }
}

function after(
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
