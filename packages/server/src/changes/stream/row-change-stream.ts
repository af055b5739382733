import { setImmediate as yieldToEventLoop } from 'node:timers/promises';
import { ProtocolError } from '@goforward/realtime-protocol';
import type { Channel } from '../../channels/channel.js';
import type { Subscriber } from '../../channels/subscriber.js';
import type { Clock } from '../../lib/clock.js';
import type { Log } from '../../lib/log.js';
import type { ChangeSource, SinkMemo } from '../../postgres/source/change-source.js';
import type { Delivery } from '../delivery/delivery.js';
import type { MemberFeeds } from '../delivery/member-feeds.js';
import type { ReceivedCounts } from '../delivery/received-counts.js';
import { StartPositions } from '../delivery/start-positions.js';
import type { ChangeBatch, EpochStart, StreamEvent } from '../log/change-batch.js';
import type { ChangeLog } from '../log/change-log.js';
import { forgottenOf, memoOf } from '../log/forgotten-positions.js';
import { MESSAGES_OID, type StreamedChange } from '../log/packed-changes.js';
import type { ResumeLog } from '../log/resume-log.js';
import {
  type Cursor,
  comparePositions,
  formatCursor,
  laterPosition,
  type Position,
  parseCursor,
  positionBefore,
  positionBeforeChange,
} from '../model/position.js';
import type { SubscriptionTarget } from '../model/recipient-group.js';
import type { BatchRouter, RoutedBatch } from '../routing/batch-router.js';
import type { Recipients } from '../routing/recipients.js';
import { ViewerPreparation } from '../routing/viewer-preparation.js';
import type { PersonalSubscriptions } from '../subscriptions/personal-subscriptions.js';
import type { Subscription } from '../subscriptions/subscription.js';
import { Deadline } from '../visibility/deadline.js';
import type { ConditionLimits } from './condition-limits.js';
import { EventAnnouncer } from './event-announcer.js';
import type { OutcomeCounts } from './outcome-counts.js';
import type { Replays } from './replays.js';
import { type BatchPart, routeInParts, tablesOfChanges, undecidedMembers } from './route-in-parts.js';

export interface RowChangeStreamParts {
  readonly source: ChangeSource;
  readonly changes: ChangeLog;
  readonly router: BatchRouter;
  /** All members, by recipient group. */
  readonly recipients: Recipients;
  /** Whether membership lists are read from the table. */
  readonly isMembershipTable: (oid: number) => boolean;
  readonly feeds: MemberFeeds;
  readonly delivery: Delivery;
  readonly received: Pick<ReceivedCounts, 'joined' | 'left'>;
  readonly resumeLog: ResumeLog;
  readonly replays: Replays;
  readonly personal: PersonalSubscriptions;
  readonly subscriptions: {
    list(): readonly Subscription[];
    ofChannel(name: string): readonly Subscription[];
  };
  readonly outcomeCounts: OutcomeCounts;
  readonly conditionLimits: Pick<ConditionLimits, 'charge'>;
  readonly channel: (name: string) => Channel | undefined;
  readonly counters: { changeErrors: number };
  readonly clock: Clock;
  readonly log: Log;
}

/** The answer to a join: the fields of `connected`, and the events that follow it. */
export interface JoinResult {
  /** The member gets every change after this that it is allowed to see; missing while no epoch is known. */
  readonly cursor?: string;
  /** Whether the member gets every change that it missed. */
  readonly recovered: boolean;
  readonly events: readonly StreamEvent[];
}

/** A member that joined before any change epoch was known. */
interface PendingJoin {
  readonly channel: Channel;
  /** The cursor that the member resumes from; undefined: it starts at `end`. */
  readonly cursor: string | undefined;
  /** The end of the WAL when the member joined; undefined: not known then. */
  readonly end: bigint | undefined;
}

const BEFORE_ALL_CHANGES: Position = { commitLsn: 0n, index: -1 };
/** Why changes that cannot be routed are a `gap`. */
const UNEVALUATED = 'changes could not be evaluated';
/** How long a batch waits for PostgreSQL, in ms. Members for which it is not decided by then go on in a replay. */
const BATCH_WAIT_MS = 100;
/** How often members without progress are looked for, in ms. */
const SLOW_CHECK_MS = 1_000;
/** How long a returning client waits for the stream to open, in ms. A handshake may take ten seconds. */
const OPEN_TIMEOUT_MS = 8_000;

/**
 * Streams row changes from their source to the members of channels. Takes one batch after the other from the
 * change log, has it routed, delivers the messages and appends the batch to the resume log. Decides where
 * members start when they join, resume by cursor, or are paused for a snapshot.
 */
export class RowChangeStream {
  readonly #parts: RowChangeStreamParts;
  readonly #stopping = new AbortController();
  readonly #positions = new StartPositions();
  readonly #pendingJoins = new Map<Subscriber, PendingJoin>();
  /** The epoch of the batches that are delivered now; empty before the first. */
  #epoch = '';
  /** The last change that was delivered. */
  #lastDelivered = BEFORE_ALL_CHANGES;
  /**
   * The end of the WAL when this epoch began. Earlier changes that the source sends again are only for
   * members that missed them.
   */
  #epochBegin = BEFORE_ALL_CHANGES;
  /**
   * The commit LSN of the last transaction that invalidated memberships since only a part of it had been read
   * when that part was routed.
   */
  #invalidatedBy: bigint | undefined;
  /** The batch that is being routed. */
  #currentBatch: ChangeBatch | undefined;
  readonly #preparation: ViewerPreparation;
  readonly #announcer: EventAnnouncer;
  #resolveOpened: (() => void) | undefined;
  readonly #whenOpened = new Promise<void>((resolve) => {
    this.#resolveOpened = resolve;
  });
  #slowCheck: NodeJS.Timeout | undefined;
  #running: Promise<void> | undefined;

  constructor(parts: RowChangeStreamParts) {
    this.#parts = parts;
    this.#preparation = new ViewerPreparation(parts.router, parts.recipients);
    this.#announcer = new EventAnnouncer(parts);
  }

  get source(): Pick<ChangeSource, 'state' | 'stats'> {
    return this.#parts.source;
  }

  get epoch(): string {
    return this.#epoch;
  }

  start(): void {
    const { source, changes, feeds } = this.#parts;
    changes.connect(source);
    this.#running = this.#run();
    this.#slowCheck = setInterval(() => feeds.closeSlowMembers(changes), SLOW_CHECK_MS).unref();
    source.start(changes);
  }

  async stop(): Promise<void> {
    const { source, changes, replays } = this.#parts;
    this.#stopping.abort();
    this.#resolveOpened?.();
    clearInterval(this.#slowCheck);
    await source.stop();
    changes.end();
    await replays.stop();
    await this.#running;
  }

  /**
   * Waits until the change epoch is known, so that a returning client can resume; not if that is likely to
   * take long.
   */
  async waitUntilOpen(): Promise<void> {
    const { status } = this.#parts.source.state;
    if (this.#epoch !== '' || status === 'follower' || status === 'refused') return;
    let timer: NodeJS.Timeout | undefined;
    const timedOut = new Promise<void>((resolve) => {
      timer = setTimeout(resolve, OPEN_TIMEOUT_MS);
    });
    await Promise.race([this.#whenOpened, timedOut]).finally(() => clearTimeout(timer));
  }

  /** Adds a member. `cursor`: the last change that the member has; undefined: it does not resume. */
  joined(member: Subscriber, channel: Channel, cursor: string | undefined): JoinResult {
    this.#parts.received.joined(member);
    const events = this.#downEvents(channel);
    if (this.#epoch === '') {
      this.goLive(member, channel);
      this.#pendingJoins.set(member, { channel, cursor, end: this.#parts.source.observedEnd });
      return { recovered: false, events };
    }
    const requested = cursor === undefined ? undefined : this.#resumePosition(channel, cursor);
    if (typeof requested === 'object') {
      this.#resume(member, channel, requested.position);
      return { cursor: formatCursor(requested), recovered: true, events };
    }
    const position = laterPosition(this.#livePosition(), this.#epochBegin);
    this.goLive(member, channel);
    this.#positions.start(member, position);
    const gap = requested === undefined ? [] : [gapEvent(requested)];
    return {
      cursor: formatCursor({ epoch: this.#epoch, position }),
      recovered: false,
      events: [...gap, ...events],
    };
  }

  /** Routes live batches for a member from the next one on. Its policies' parameters are evaluated ahead of that. */
  goLive(member: Subscriber, channel: Channel): void {
    this.#parts.recipients.join(member, channel);
    this.#prepare(member, channel);
  }

  #prepare(member: Subscriber, channel: Channel): void {
    this.#preparation.schedule([
      ...this.tablesOf(channel).filter((oid) => oid !== MESSAGES_OID),
      ...this.#parts.personal.tablesOf(member),
    ]);
  }

  /**
   * Pauses the changes of a member until `resume`, which then sends all that it missed. Throws
   * DATABASE_UNAVAILABLE while no epoch is known.
   */
  pause(member: Subscriber, channel: Channel): void {
    if (this.#epoch === '') throw new ProtocolError('DATABASE_UNAVAILABLE', { fields: { retry_after: 1 } });
    const livePosition = this.#livePosition();
    this.#parts.replays.pause(
      member,
      channel,
      laterPosition(livePosition, this.#positions.of(member) ?? livePosition),
    );
  }

  /**
   * Returns the start position of a member that joins now. The batch that is being routed does not include
   * it.
   */
  #livePosition(): Position {
    const lastRouted =
      this.#currentBatch === undefined
        ? this.#lastDelivered
        : lastOf(this.#currentBatch, this.#lastDelivered);
    return this.#parts.changes.idlePosition ?? lastRouted;
  }

  /** Ends a pause. */
  resume(member: Subscriber): void {
    this.#parts.replays.resume(member);
  }

  /**
   * Applies the new viewer of a member to all batches from the next one on. Its parameters are evaluated ahead
   * of that batch, which does not wait for them.
   */
  reauthorized(member: Subscriber, channel: Channel): void {
    this.#parts.recipients.updateViewer(member);
    this.#prepare(member, channel);
    this.#parts.delivery.forgetReportedFailures(member);
  }

  /** Makes the viewers of all members again: the first database that was reached has an encoding of its own. */
  viewersChanged(): void {
    this.#parts.recipients.updateViewers();
  }

  left(member: Subscriber): void {
    this.#parts.recipients.leave(member);
    this.#parts.received.left(member);
    this.#parts.personal.remove(member);
    this.#pendingJoins.delete(member);
    this.#positions.remove(member);
    this.#parts.replays.remove(member);
    this.#parts.feeds.remove(member);
  }

  /**
   * Sends an event to all members that subscribe to its tables (missing: to any table), after all changes so
   * far.
   */
  announce(streamEvent: StreamEvent): void {
    this.#parts.changes.announce(streamEvent);
  }

  /**
   * Marks all changes of a table up to now as possibly missed: a member that resumes from before gets a
   * `gap`. Throws DATABASE_UNAVAILABLE.
   */
  async markMissed(oid: number): Promise<void> {
    const now = positionBefore(await this.#parts.source.observe());
    this.#epochBegin = laterPosition(this.#epochBegin, now);
    this.#parts.resumeLog.markMissed(oid, now);
  }

  /**
   * Forgets what committed before `lsn`, which the source will not send again. Returns what to store with
   * that position.
   */
  forget(lsn: bigint): SinkMemo {
    const { resumeLog } = this.#parts;
    // While a new epoch waits to be delivered, `lsn` is not a position of the epoch in the resume log.
    if (this.#parts.changes.epoch === this.#epoch) resumeLog.forget(lsn);
    return memoOf(resumeLog.forgotten);
  }

  /** Returns the position after which a member goes on that has lost what committed before. */
  get restartPosition(): Position {
    return laterPosition(this.#lastDelivered, this.#epochBegin);
  }

  /** Prepares the next change of tables with new subscriptions, which then does not wait for it. */
  prepare(oids: Iterable<number>): void {
    this.#preparation.schedule(oids);
  }

  /** Whether the batch that is being routed goes past a member at `position`, which it does not include. */
  isBehindCurrentBatch(position: Position): boolean {
    const current = this.#currentBatch;
    return current !== undefined && comparePositions(position, lastOf(current, this.#lastDelivered)) < 0;
  }

  /** Returns a `database_down` event for a new member while the stream is down. */
  #downEvents(channel: Channel): StreamEvent[] {
    const { changes, source, subscriptions } = this.#parts;
    if (changes.isOpen || subscriptions.ofChannel(channel.name).length === 0) return [];
    changes.markDownReported();
    const { state } = source;
    const reason = state.status === 'down' ? state.reason : state.status;
    return [{ event: 'database_down', payload: { reason } }];
  }

  /** Returns the cursor if every change after it is available; otherwise the reason for the `gap`. */
  #resumePosition(channel: Channel, text: string): Cursor | string {
    const cursor = parseCursor(text);
    if (cursor === undefined) return 'the cursor is malformed';
    if (cursor.epoch !== this.#epoch) return 'the cursor belongs to another change epoch';
    const { resumeLog } = this.#parts;
    if (!resumeLog.covers(cursor.position, this.tablesOf(channel)))
      return 'changes after the cursor are no longer available';
    return cursor;
  }

  /** Returns the tables that a channel is subscribed to, by oid, and MESSAGES. */
  tablesOf(channel: Channel): number[] {
    const subscriptions = this.#parts.subscriptions.ofChannel(channel.name);
    return [
      MESSAGES_OID,
      ...subscriptions.flatMap(({ tableOid }) => (tableOid === undefined ? [] : [tableOid])),
    ];
  }

  /** Continues a member after `position`: by replay if it has missed anything, else live. */
  #resume(member: Subscriber, channel: Channel, position: Position): void {
    const { resumeLog, replays } = this.#parts;
    if (resumeLog.hasAfter(position) || this.isBehindCurrentBatch(position))
      replays.add(member, channel, position);
    else {
      this.goLive(member, channel);
      this.#positions.start(member, position);
    }
  }

  async #run(): Promise<void> {
    const { changes, replays } = this.#parts;
    for (let batch = await changes.next(); batch !== undefined; batch = await changes.next()) {
      if (batch.epochStart !== undefined) this.#beginEpoch(batch, batch.epochStart);
      else if (batch.streamEvent !== undefined) this.#announcer.announce(batch, batch.streamEvent);
      else await this.#deliver(batch);
      batch.release();
      replays.advanced();
      // Other work of the event loop, such as pings and broadcasts, runs between two batches.
      await yieldToEventLoop();
    }
  }

  /**
   * Begins a change epoch: positions of the one before are discarded, and members that waited for it get a
   * start.
   */
  #beginEpoch(batch: ChangeBatch, { epoch, memo, end, gap }: EpochStart): void {
    const { resumeLog, replays, delivery } = this.#parts;
    this.#epoch = epoch;
    this.#lastDelivered = BEFORE_ALL_CHANGES;
    this.#epochBegin = positionBefore(end);
    this.#positions.clear();
    this.#parts.recipients.invalidateMemberships();
    this.#invalidatedBy = undefined;
    replays.restart(BEFORE_ALL_CHANGES);
    this.#parts.outcomeCounts.reset();
    resumeLog.reset(forgottenOf(memo));
    for (const [member, requested] of this.#pendingJoins) {
      const position =
        requested.cursor === undefined
          ? undefined
          : this.#resumePosition(requested.channel, requested.cursor);
      if (typeof position === 'object') this.#positions.start(member, position.position);
      else {
        this.#positions.start(
          member,
          requested.end === undefined ? this.#epochBegin : positionBefore(requested.end),
        );
        // If the epoch begins with a gap, all members are sent that one, this member included.
        if (position !== undefined && gap === undefined) {
          const { event, payload } = gapEvent(position);
          delivery.send(member, event, payload, batch);
        }
      }
    }
    this.#pendingJoins.clear();
    if (gap !== undefined) this.#announcer.announce(batch, gapEvent(gap));
    this.#resolveOpened?.();
  }

  async #deliver(batch: ChangeBatch): Promise<void> {
    const { router, recipients, delivery, resumeLog, replays, outcomeCounts, log, counters } = this.#parts;
    const { changes: packed, epoch, catalogXids } = batch;
    const { first, last } = packed;
    const changes = packed.read();
    this.#currentBatch = batch;
    // PostgreSQL already shows what the rest of the transaction does to memberships, before the rest is read.
    if (
      last.commitLsn !== this.#invalidatedBy &&
      this.#parts.changes.continuesTransaction(last, this.#parts.isMembershipTable)
    ) {
      this.#invalidatedBy = last.commitLsn;
      recipients.invalidateMemberships();
      replays.invalidateMemberships();
    }
    const deliver = async () => {
      let deadline = this.#newDeadline();
      let routed: readonly StreamedChange[] = changes;
      const parts = await routeInParts(
        changes,
        (some) => {
          // Attempts at the same changes share a deadline. Parts of a batch that failed get time of their own.
          if (some !== routed) deadline = this.#newDeadline();
          routed = some;
          return router.route(
            { epoch, changes: some, catalogXids, mustAskCatalog: false },
            recipients,
            deadline,
          );
        },
        this.#stopping.signal,
        (error) => {
          counters.changeErrors += 1;
          log.error({ err: error }, 'Row changes could not be evaluated');
          // Changes to memberships were applied in part, or not at all.
          recipients.invalidateMemberships();
        },
      );
      this.#currentBatch = undefined;
      if (this.#stopping.signal.aborted) return;
      this.#leaveUndecided(parts, positionBeforeChange(first));
      replays.catalogChanged(catalogXids);
      const isDelayed = this.#delayedTargets(parts);
      const positionOf = (member: Subscriber) =>
        replays.willReplay(member, last) ? 'skip' : this.#positions.of(member, first);
      for (const part of parts) {
        if (part.routed === undefined) {
          this.#announcer.announce(batch, {
            ...gapEvent(UNEVALUATED),
            tables: tablesOfChanges(part.changes),
          });
          continue;
        }
        const { deliveries, costs } = part.routed;
        delivery.deliver(deliveries, part.changes, positionOf, batch);
        outcomeCounts.countLive(part.routed, endOf(part.changes, last), isDelayed);
        this.#parts.conditionLimits.charge(costs);
      }
      resumeLog.append(packed);
      this.#lastDelivered = last;
    };
    await this.#preparation.pauseDuring(() => recipients.freezeDuring(deliver));
  }

  /** Goes on without the members for which a batch is not decided: they get it, and what follows, by replay. */
  #leaveUndecided(parts: readonly BatchPart<RoutedBatch>[], before: Position): void {
    const { recipients, replays } = this.#parts;
    for (const [member, { channel, why }] of undecidedMembers(parts)) {
      if (!channel.audience.has(member)) continue;
      recipients.leave(member);
      const position = laterPosition(before, this.#positions.of(member) ?? before);
      replays.addUndecided(member, channel, position, why);
    }
  }

  /** Returns whether all who follow a target get the batch by replay; undefined: there are no delayed members. */
  #delayedTargets(parts: readonly BatchPart<RoutedBatch>[]) {
    const { recipients, replays } = this.#parts;
    const delayed = replays.delayedTargets;
    if (delayed.size === 0) return undefined;
    const undecided = new Set(parts.flatMap(({ routed }) => [...(routed?.undecided.keys() ?? [])]));
    return (target: SubscriptionTarget, oid: number) =>
      delayed.has(target) && !recipients.isFollowed(target, oid, undecided);
  }

  #newDeadline(): Deadline {
    return new Deadline(BATCH_WAIT_MS, this.#parts.clock);
  }
}

function gapEvent(reason: string): StreamEvent {
  return { event: 'gap', payload: { scope: 'changes', reason } };
}

function endOf(changes: readonly StreamedChange[], otherwise: Position): Position {
  const last = changes.at(-1);
  return last === undefined ? otherwise : { commitLsn: last.transaction.commitLsn, index: last.index };
}

/** Returns the last change of a batch; `otherwise` for a batch without changes. */
function lastOf({ changes }: ChangeBatch, otherwise: Position): Position {
  return changes.count === 0 ? otherwise : changes.last;
}
