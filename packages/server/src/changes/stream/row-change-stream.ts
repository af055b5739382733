import { setImmediate as nextTurn } from 'node:timers/promises';
import { ProtocolError } from '@goforward/realtime-protocol';
import type { Channel } from '../../channels/channel.js';
import type { Subscriber } from '../../channels/subscriber.js';
import type { Log } from '../../lib/log.js';
import type { ChangeSource, SinkMemo } from '../../postgres/source/change-source.js';
import type { Delivery } from '../delivery/delivery.js';
import type { MemberFeeds } from '../delivery/member-feeds.js';
import { MemberPositions } from '../delivery/member-positions.js';
import type { ChangeBatch, EpochStart, StreamEvent } from '../log/change-batch.js';
import type { ChangeLog } from '../log/change-log.js';
import { MESSAGES } from '../log/packed-changes.js';
import type { Forgotten, ResumeLog } from '../log/resume-log.js';
import {
  type Cursor,
  comparePositions,
  formatCursor,
  formatPosition,
  laterOf,
  type Position,
  parseCursor,
  parsePosition,
  positionBefore,
} from '../model/position.js';
import type { BatchRouter } from '../routing/batch-router.js';
import type { Recipients } from '../routing/recipients.js';
import { ViewerPreparation } from '../routing/viewer-preparation.js';
import type { ChangeCounts } from '../subscriptions/change-counts.js';
import type { PersonalSubscriptions } from '../subscriptions/personal-subscriptions.js';
import type { Subscription } from '../subscriptions/subscription.js';
import type { Replays } from './replays.js';
import { retry } from './retry.js';

export interface RowChangeStreamParts {
  readonly source: ChangeSource;
  readonly changes: ChangeLog;
  readonly router: BatchRouter;
  /** Where all members sit. */
  readonly recipients: Recipients;
  /** Whether memberships are read from the table. */
  readonly isMembershipTable: (oid: number) => boolean;
  readonly feeds: MemberFeeds;
  readonly delivery: Delivery;
  readonly resumeLog: ResumeLog;
  readonly replays: Replays;
  readonly personal: PersonalSubscriptions;
  readonly subscriptions: {
    list(): readonly Subscription[];
    ofChannel(name: string): readonly Subscription[];
    counted(subscription: Subscription, changes: number): void;
  };
  /** What became of changes, by subscription. */
  readonly counts: Pick<ChangeCounts, 'add'>;
  readonly channel: (name: string) => Channel | undefined;
  readonly counters: { changeErrors: number };
  readonly log: Log;
}

/** What a new member is told: in `connected`, and right after it. */
export interface JoinResult {
  /** Behind which the member gets every change that it may see; missing while that is not known. */
  readonly cursor?: string;
  /** Whether it gets everything that it missed. */
  readonly recovered: boolean;
  readonly events: readonly StreamEvent[];
}

/** A member that joined before any history was known. */
interface PendingJoin {
  readonly channel: Channel;
  /** What it asked for; undefined: it begins where the log ended. */
  readonly cursor: string | undefined;
  readonly end: bigint | undefined;
}

const BEGINNING: Position = { commitLsn: 0n, index: -1 };
/** How often members that make no progress are looked for, in ms. */
const SLOW_CHECK_MS = 1_000;
/** How long somebody who comes back waits for the stream to open, in ms; a handshake may take ten seconds. */
const OPEN_TIMEOUT_MS = 8_000;

/** The stream of row changes from its source to the members of channels: one slice after the other. */
export class RowChangeStream {
  readonly #parts: RowChangeStreamParts;
  readonly #stopping = new AbortController();
  readonly #positions = new MemberPositions();
  readonly #pendingJoins = new Map<Subscriber, PendingJoin>();
  /** What is being handed out is of this history; empty before the first. */
  #epoch = '';
  /** The last change that was handed out. */
  #lastDelivered = BEGINNING;
  /** Where the log ended when this history began: what is read again of what was before is for those who missed it. */
  #epochBegin = BEGINNING;
  /** The last transaction, by its commit, of which a part was handed out before the rest was there. */
  #invalidatedBy: bigint | undefined;
  /** What is being handed out. */
  #currentBatch: ChangeBatch | undefined;
  readonly #preparation: ViewerPreparation;
  #opened: (() => void) | undefined;
  readonly #hasOpened = new Promise<void>((resolve) => {
    this.#opened = resolve;
  });
  #slowCheck: NodeJS.Timeout | undefined;
  #running: Promise<void> | undefined;

  constructor(parts: RowChangeStreamParts) {
    this.#parts = parts;
    this.#preparation = new ViewerPreparation(parts.router, parts.recipients);
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
    this.#slowCheck = setInterval(() => feeds.cutOffSlow(changes), SLOW_CHECK_MS).unref();
    source.start(changes);
  }

  async stop(): Promise<void> {
    const { source, changes, replays } = this.#parts;
    this.#stopping.abort();
    this.#opened?.();
    clearInterval(this.#slowCheck);
    await source.stop();
    changes.end();
    await replays.stop();
    await this.#running;
  }

  /** Waits, for somebody who comes back, until it is known which history there is, unless that will take long. */
  async ready(): Promise<void> {
    const { status } = this.#parts.source.state;
    if (this.#epoch !== '' || status === 'follower' || status === 'refused') return;
    let timer: NodeJS.Timeout | undefined;
    const timedOut = new Promise<void>((resolve) => {
      timer = setTimeout(resolve, OPEN_TIMEOUT_MS);
    });
    await Promise.race([this.#hasOpened, timedOut]).finally(() => clearTimeout(timer));
  }

  /** A member has joined; `cursor`: up to where it has everything. */
  joined(member: Subscriber, channel: Channel, cursor: string | undefined): JoinResult {
    this.#parts.recipients.join(member, channel);
    this.#preparation.schedule(this.tablesOf(channel).filter((oid) => oid !== MESSAGES));
    const events = this.#downEvents(channel);
    if (this.#epoch === '') {
      this.#pendingJoins.set(member, { channel, cursor, end: this.#parts.source.observedEnd });
      return { recovered: false, events };
    }
    const requested = cursor === undefined ? undefined : this.#resumePosition(channel, cursor);
    if (typeof requested === 'object') {
      this.#resume(member, channel, requested.position);
      return { cursor: formatCursor(requested), recovered: true, events };
    }
    const position = laterOf(this.#livePosition(), this.#epochBegin);
    this.#positions.start(member, position);
    const gap = requested === undefined ? [] : [gapEvent(requested)];
    return {
      cursor: formatCursor({ epoch: this.#epoch, position }),
      recovered: false,
      events: [...gap, ...events],
    };
  }

  /** The member gets no changes until `goOn`, and then those behind all that it has. Throws DATABASE_UNAVAILABLE before there is a history. */
  pause(member: Subscriber, channel: Channel): void {
    if (this.#epoch === '') throw new ProtocolError('DATABASE_UNAVAILABLE', { fields: { retry_after: 1 } });
    const livePosition = this.#livePosition();
    this.#parts.replays.retain(
      member,
      channel,
      laterOf(livePosition, this.#positions.of(member) ?? livePosition),
    );
  }

  /** Whoever joins now gets what comes behind this. What is being handed out was decided on without them. */
  #livePosition(): Position {
    const handedOut =
      this.#currentBatch === undefined
        ? this.#lastDelivered
        : lastOf(this.#currentBatch, this.#lastDelivered);
    return this.#parts.changes.idlePosition ?? handedOut;
  }

  resume(member: Subscriber): void {
    this.#parts.replays.resume(member);
  }

  /** The member's claims are others: they count for whatever is decided from here on. */
  reauthorized(member: Subscriber): void {
    this.#parts.recipients.update(member);
    this.#parts.delivery.forgetReportedFailures(member);
  }

  left(member: Subscriber): void {
    this.#parts.recipients.leave(member);
    this.#parts.personal.remove(member);
    this.#pendingJoins.delete(member);
    this.#positions.remove(member);
    this.#parts.replays.remove(member);
    this.#parts.feeds.remove(member);
  }

  /** Tells something to the members of the channels that are subscribed to these tables (missing: to any), behind the changes so far. */
  announce(streamEvent: StreamEvent): void {
    this.#parts.changes.announce(streamEvent);
  }

  /** Changes of a table may have been missed up to now: who was there before and comes back is told. Throws DATABASE_UNAVAILABLE. */
  async markMissed(oid: number): Promise<void> {
    const now = positionBefore(await this.#parts.source.observe());
    this.#epochBegin = laterOf(this.#epochBegin, now);
    this.#parts.resumeLog.markMissed(oid, now);
  }

  /** What committed before `lsn` is not sent again by the source: who missed it is too late. */
  forget(lsn: bigint): SinkMemo {
    const { resumeLog } = this.#parts;
    // While another history waits to be handed out, positions are not those of this log.
    if (this.#parts.changes.epoch === this.#epoch) resumeLog.forget(lsn);
    return memoOf(resumeLog.forgotten);
  }

  /** Whether what is being handed out goes past a member at `position`, which joined after it was decided. */
  isBehindCurrentBatch(position: Position): boolean {
    const current = this.#currentBatch;
    return current !== undefined && comparePositions(position, lastOf(current, this.#lastDelivered)) < 0;
  }

  /** While the stream is down a member is told so. */
  #downEvents(channel: Channel): StreamEvent[] {
    const { changes, source, subscriptions } = this.#parts;
    if (changes.isOpen || subscriptions.ofChannel(channel.name).length === 0) return [];
    changes.markDownReported();
    const { state } = source;
    const reason = state.status === 'down' ? state.reason : state.status;
    return [{ event: 'database_down', payload: { reason } }];
  }

  /** The cursor, where everything behind it is there; otherwise why not, in a few words. */
  #resumePosition(channel: Channel, text: string): Cursor | string {
    const cursor = parseCursor(text);
    if (cursor === undefined) return 'the cursor is none of this server';
    if (cursor.epoch !== this.#epoch) return 'the cursor is of another history of the changes';
    const { resumeLog } = this.#parts;
    if (!resumeLog.covers(cursor.position, this.tablesOf(channel)))
      return 'the cursor is older than what can be read again';
    return cursor;
  }

  /** What a channel gets: the tables that it is subscribed to, by oid, and messages. */
  tablesOf(channel: Channel): number[] {
    const subscriptions = this.#parts.subscriptions.ofChannel(channel.name);
    return [MESSAGES, ...subscriptions.flatMap(({ tableOid }) => (tableOid === undefined ? [] : [tableOid]))];
  }

  #resume(member: Subscriber, channel: Channel, position: Position): void {
    const { resumeLog, replays } = this.#parts;
    if (resumeLog.hasAfter(position) || this.isBehindCurrentBatch(position))
      replays.add(member, channel, position);
    else this.#positions.start(member, position);
  }

  async #run(): Promise<void> {
    const { changes, replays } = this.#parts;
    for (let batch = await changes.next(); batch !== undefined; batch = await changes.next()) {
      if (batch.epochStart !== undefined) this.#begin(batch, batch.epochStart);
      else if (batch.streamEvent !== undefined) this.#announce(batch, batch.streamEvent);
      else await this.#deliver(batch);
      batch.release();
      replays.advanced();
      // Pings and chat come between two slices.
      await nextTurn();
    }
  }

  /** Another history: nobody can go on in the one before. */
  #begin(batch: ChangeBatch, { epoch, memo, end, gap }: EpochStart): void {
    const { resumeLog, replays, delivery } = this.#parts;
    this.#epoch = epoch;
    this.#lastDelivered = BEGINNING;
    this.#epochBegin = positionBefore(end);
    this.#positions.clear();
    this.#parts.recipients.invalidateMemberships();
    this.#invalidatedBy = undefined;
    replays.clear();
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
        // A gap that everybody is told of is told to this member with the others.
        if (position !== undefined && gap === undefined) {
          const { event, payload } = gapEvent(position);
          delivery.send(member, event, payload, batch);
        }
      }
    }
    this.#pendingJoins.clear();
    if (gap !== undefined) this.#announce(batch, gapEvent(gap));
    this.#opened?.();
  }

  async #deliver(batch: ChangeBatch): Promise<void> {
    const { router, recipients, delivery, resumeLog, replays, subscriptions, counts, log, counters } =
      this.#parts;
    const { changes: packed } = batch;
    const { first, last } = packed;
    const changes = packed.read();
    this.#currentBatch = batch;
    // What a transaction that goes on will do to memberships is there already, and its changes are not.
    if (
      last.commitLsn !== this.#invalidatedBy &&
      this.#parts.changes.continuesTransaction(last, this.#parts.isMembershipTable)
    ) {
      this.#invalidatedBy = last.commitLsn;
      recipients.invalidateMemberships();
    }
    const deliver = async () => {
      const routed = await retry(
        () => router.route(batch.epoch, changes, recipients),
        this.#stopping.signal,
        (error) => {
          counters.changeErrors += 1;
          log.error({ err: error }, 'Row changes could not be judged');
        },
      );
      this.#currentBatch = undefined;
      if (this.#stopping.signal.aborted) return;
      if (routed === undefined) this.#dropBatch(batch);
      else {
        const positionOf = (member: Subscriber) =>
          replays.willReplay(member, last) ? 'skip' : this.#positions.of(member, first);
        delivery.deliver(routed.deliveries, changes, positionOf, batch);
        for (const [subscription, own] of routed.delivered) subscriptions.counted(subscription, own.size);
        counts.add(routed.outcomes);
      }
      resumeLog.append(packed);
      this.#lastDelivered = last;
    };
    await this.#preparation.pauseDuring(() => recipients.freezeDuring(deliver));
  }

  /** A slice that cannot be judged reaches nobody, and whoever waits for its tables is told. */
  #dropBatch(batch: ChangeBatch): void {
    // What it did to memberships was not taken over.
    this.#parts.recipients.invalidateMemberships();
    const tables = [...new Set(batch.changes.relations.map(({ oid }) => oid))];
    this.#announce(batch, { ...gapEvent('changes could not be judged'), tables });
  }

  #announce(batch: ChangeBatch, { event, payload, tables }: StreamEvent): void {
    const { delivery, feeds, personal } = this.#parts;
    const bytes = delivery.systemMessage(event, payload);
    const members = new Set<Subscriber>(personal.owners(tables));
    for (const channel of this.#channels(tables)) {
      for (const member of channel.audience.members()) members.add(member);
    }
    for (const member of members) feeds.deliver(member, [bytes], batch);
  }

  /** The channels that are subscribed to one of these tables; missing: to any. */
  #channels(tables?: readonly number[]): ReadonlySet<Channel> {
    const { subscriptions, channel: find } = this.#parts;
    const channels = new Set<Channel>();
    for (const { channelName, tableOid } of subscriptions.list()) {
      if (tables !== undefined && (tableOid === undefined || !tables.includes(tableOid))) continue;
      const channel = find(channelName);
      if (channel !== undefined) channels.add(channel);
    }
    return channels;
  }
}

function gapEvent(reason: string): StreamEvent {
  return { event: 'gap', payload: { scope: 'changes', reason } };
}

function lastOf({ changes }: ChangeBatch, otherwise: Position): Position {
  return changes.count === 0 ? otherwise : changes.last;
}

function memoOf(forgotten: Forgotten): SinkMemo {
  return Object.fromEntries([...forgotten].map(([oid, position]) => [String(oid), formatPosition(position)]));
}

function forgottenOf(memo: SinkMemo): Forgotten {
  return new Map(Object.entries(memo).map(([oid, text]) => [Number(oid), parsePosition(text)]));
}
