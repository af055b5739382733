import { ProtocolError } from '@goforward/realtime-protocol';
import { SYSTEM_USER } from '../../auth/identity.js';
import type { MessageEncoder } from '../../channels/message-encoder.js';
import type { Subscriber } from '../../channels/subscriber.js';
import type { Clock } from '../../lib/clock.js';
import type { TableFacts } from '../table-facts.js';
import type { FrameList, Group } from './groups.js';
import type { Hold, MemberFeeds } from './member-feeds.js';
import type { StreamedChange } from './packed-changes.js';
import { Pieces } from './pieces.js';
import { comparePositions, type Position } from './position.js';

/** Counts what members get; read when metrics are scraped. */
interface DeliveryCounts {
  deliveries: number;
  changesDelivered: number;
}

export interface DeliveryParts {
  readonly feeds: MemberFeeds;
  readonly encoder: MessageEncoder;
  readonly tally: DeliveryCounts;
  readonly clock: Clock;
}

/** What fails all the time is told again after so long, at the earliest, in ms. */
const TELL_AGAIN_MS = 30_000;

/** Hands members what was found out to be theirs. */
export class Delivery {
  readonly #parts: DeliveryParts;
  /** What each member was told of policies and conditions that fail, and when: once for each subscription and state of the catalog. */
  readonly #told = new WeakMap<
    Subscriber,
    Map<string, { readonly facts: TableFacts; readonly at: number }>
  >();

  constructor(parts: DeliveryParts) {
    this.#parts = parts;
  }

  /** Hands out messages of `changes`; a member gets those behind its place (undefined: all), or none at all. */
  deliver(
    groups: Iterable<Group>,
    changes: readonly StreamedChange[],
    placeOf: (member: Subscriber) => Position | 'nowhere' | undefined,
    hold: Hold,
  ): void {
    const pieces = new Pieces();
    for (const group of groups) {
      const { channel, members } = group.seat;
      for (const member of members) {
        if (!channel.audience.has(member)) continue;
        const place = placeOf(member);
        if (place === 'nowhere') continue;
        if (group.failed.size > 0) this.#tellFailures(member, group, hold);
        const hasAll = place === undefined || isBehind(changes[0], place);
        const lists = hasAll ? group.lists : behind(group.lists, changes, place);
        const count = lists.reduce((sum, list) => sum + list.length, 0);
        if (count === 0) continue;
        this.#parts.feeds.deliver(member, pieces.of(lists), hold);
        this.#parts.tally.deliveries += count;
        this.#parts.tally.changesDelivered += count;
      }
    }
  }

  /** The member is told again of what fails: its claims are others. */
  forgetTold(member: Subscriber): void {
    this.#told.delete(member);
  }

  /** Hands a member a message of the server. */
  tell(member: Subscriber, event: string, payload: unknown, hold: Hold): void {
    this.#parts.feeds.deliver(member, [this.system(event, payload)], hold);
  }

  /** Hands a member rows that are JSON already: what is in them stays as PostgreSQL wrote it. */
  tellRows(
    member: Subscriber,
    { subscription_id, more }: { readonly subscription_id: string; readonly more: boolean },
    rows: readonly string[],
    hold: Hold,
  ): void {
    const { encoder, feeds } = this.#parts;
    const payload = { subscription_id, rows: [], more };
    const envelope = JSON.stringify(encoder.message('system', 'snapshot', payload, SYSTEM_USER));
    const text = envelope.replace('"rows":[]', () => `"rows":[${rows.join()}]`);
    feeds.deliver(member, [encoder.encodeText(text)], hold);
  }

  /** The bytes of a message of the server. */
  system(event: string, payload: unknown): Buffer {
    const { encoder } = this.#parts;
    return encoder.encode(encoder.message('system', event, payload, SYSTEM_USER));
  }

  #tellFailures(member: Subscriber, group: Group, hold: Hold): void {
    const now = this.#parts.clock();
    let told = this.#told.get(member);
    if (told === undefined) {
      told = new Map();
      this.#told.set(member, told);
    }
    for (const [{ id }, facts] of group.failed) {
      const last = told.get(id);
      // Much alters the catalog that has nothing to do with this table.
      if (last !== undefined && (last.facts === facts || now - last.at < TELL_AGAIN_MS)) continue;
      told.set(id, { facts, at: now });
      const { body } = new ProtocolError('POLICY_ERROR', { fields: { subscription_id: id } });
      this.tell(member, 'error', body, hold);
    }
  }
}

function behind(
  lists: readonly FrameList[],
  changes: readonly StreamedChange[],
  place: Position,
): readonly FrameList[] {
  return lists.map((list) => list.filter(({ position }) => isBehind(changes[position], place)));
}

function isBehind(change: StreamedChange | undefined, place: Position): boolean {
  if (change === undefined) return false;
  return comparePositions({ commitLsn: change.transaction.commitLsn, index: change.index }, place) > 0;
}
