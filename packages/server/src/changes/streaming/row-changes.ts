import { setImmediate as nextTurn } from 'node:timers/promises';
import { ProtocolError } from '@goforward/realtime-protocol';
import type { Channel } from '../../channels/channel.js';
import type { Subscriber } from '../../channels/subscriber.js';
import type { Log } from '../../lib/log.js';
import type { ChangeSource, SinkMemo } from '../../postgres/change-source.js';
import type { PersonalSubscriptions } from '../personal/personal-subscriptions.js';
import type { Replays } from '../resuming/replays.js';
import type { Forgotten, ResumeLog } from '../resuming/resume-log.js';
import type { ChangeCounts } from '../subscriptions/change-counts.js';
import type { Subscription } from '../subscriptions/subscription.js';
import type { ChangeLog } from './change-log.js';
import type { Delivery } from './delivery.js';
import type { MemberFeeds } from './member-feeds.js';
import { MemberPlaces } from './member-places.js';
import { MESSAGES } from './packed-changes.js';
import { persevere } from './persevere.js';
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
} from './position.js';
import { Preparation } from './preparation.js';
import type { Seats } from './seats.js';
import type { History, Notice, Slice } from './slice.js';
import type { SliceRouter } from './slice-router.js';

export interface RowChangesParts {
  readonly source: ChangeSource;
  readonly changes: ChangeLog;
  readonly router: SliceRouter;
  /** Where all members sit. */
  readonly seats: Seats;
  /** Whether memberships are read from the table. */
  readonly isWatched: (oid: number) => boolean;
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
  readonly tally: { changeErrors: number };
  readonly log: Log;
}

/** What a new member is told: in `connected`, and right after it. */
export interface Welcome {
  /** Behind which the member gets every change that it may see; missing while that is not known. */
  readonly cursor?: string;
  /** Whether it gets everything that it missed. */
  readonly recovered: boolean;
  readonly notices: readonly Notice[];
}

/** A member that joined before any history was known. */
interface Undecided {
  readonly channel: Channel;
  /** What it asked for; undefined: it begins where the log ended. */
  readonly cursor: string | undefined;
  readonly end: bigint | undefined;
}

const BEGINNING: Position = { commitLsn: 0n, index: -1 };
/** How often members that make no progress are looked for, in ms. */
const WATCH_MS = 1_000;
/** How long somebody who comes back waits for the stream to open, in ms; a handshake may take ten seconds. */
const PATIENCE_MS = 8_000;

/** The stream of row changes from its source to the members of channels: one slice after the other. */
export class RowChanges {
  readonly #parts: RowChangesParts;
  readonly #stopping = new AbortController();
  readonly #places = new MemberPlaces();
  readonly #undecided = new Map<Subscriber, Undecided>();
  /** What is being handed out is of this history; empty before the first. */
  #epoch = '';
  /** The last change that was handed out. */
  #frontier = BEGINNING;
  /** Where the log ended when this history began: what is read again of what was before is for those who missed it. */
  #end = BEGINNING;
  /** The last transaction, by its commit, of which a part was handed out before the rest was there. */
  #distrusted: bigint | undefined;
  /** What is being handed out. */
  #current: Slice | undefined;
  readonly #preparation: Preparation;
  #opened: (() => void) | undefined;
  readonly #hasOpened = new Promise<void>((resolve) => {
    this.#opened = resolve;
  });
  #watch: NodeJS.Timeout | undefined;
  #running: Promise<void> | undefined;

  constructor(parts: RowChangesParts) {
    this.#parts = parts;
    this.#preparation = new Preparation(parts.router, parts.seats);
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
    this.#watch = setInterval(() => feeds.cutOffSlow(changes), WATCH_MS).unref();
    source.start(changes);
  }

  async stop(): Promise<void> {
    const { source, changes, replays } = this.#parts;
    this.#stopping.abort();
    this.#opened?.();
    clearInterval(this.#watch);
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
    const late = new Promise<void>((resolve) => {
      timer = setTimeout(resolve, PATIENCE_MS);
    });
    await Promise.race([this.#hasOpened, late]).finally(() => clearTimeout(timer));
  }

  /** A member has joined; `cursor`: up to where it has everything. */
  joined(member: Subscriber, channel: Channel, cursor: string | undefined): Welcome {
    this.#parts.seats.join(member, channel);
    this.#preparation.for(this.tablesOf(channel).filter((oid) => oid !== MESSAGES));
    const notices = this.#downNotices(channel);
    if (this.#epoch === '') {
      this.#undecided.set(member, { channel, cursor, end: this.#parts.source.observedEnd });
      return { recovered: false, notices };
    }
    const asked = cursor === undefined ? undefined : this.#resumable(channel, cursor);
    if (typeof asked === 'object') {
      this.#resume(member, channel, asked.position);
      return { cursor: formatCursor(asked), recovered: true, notices };
    }
    const position = laterOf(this.#newest(), this.#end);
    this.#places.start(member, position);
    const gap = asked === undefined ? [] : [gapNotice(asked)];
    return {
      cursor: formatCursor({ epoch: this.#epoch, position }),
      recovered: false,
      notices: [...gap, ...notices],
    };
  }

  /** The member gets no changes until `goOn`, and then those behind all that it has. Throws DATABASE_UNAVAILABLE before there is a history. */
  hold(member: Subscriber, channel: Channel): void {
    if (this.#epoch === '') throw new ProtocolError('DATABASE_UNAVAILABLE', { fields: { retry_after: 1 } });
    const newest = this.#newest();
    this.#parts.replays.hold(member, channel, laterOf(newest, this.#places.of(member) ?? newest));
  }

  /** Whoever joins now gets what comes behind this. What is being handed out was decided on without them. */
  #newest(): Position {
    const handedOut = this.#current === undefined ? this.#frontier : lastOf(this.#current, this.#frontier);
    return this.#parts.changes.handedOut ?? handedOut;
  }

  goOn(member: Subscriber): void {
    this.#parts.replays.goOn(member);
  }

  /** The member's claims are others: they count for whatever is decided from here on. */
  reauthorized(member: Subscriber): void {
    this.#parts.seats.move(member);
    this.#parts.delivery.forgetTold(member);
  }

  left(member: Subscriber): void {
    this.#parts.seats.leave(member);
    this.#parts.personal.remove(member);
    this.#undecided.delete(member);
    this.#places.left(member);
    this.#parts.replays.left(member);
    this.#parts.feeds.left(member);
  }

  /** Tells something to the members of the channels that are subscribed to these tables (missing: to any), behind the changes so far. */
  tell(notice: Notice): void {
    this.#parts.changes.tell(notice);
  }

  /** Changes of a table may have been missed up to now: who was there before and comes back is told. Throws DATABASE_UNAVAILABLE. */
  async missed(oid: number): Promise<void> {
    const now = positionBefore(await this.#parts.source.observe());
    this.#end = laterOf(this.#end, now);
    this.#parts.resumeLog.miss(oid, now);
  }

  /** What committed before `lsn` is not sent again by the source: who missed it is too late. */
  forget(lsn: bigint): SinkMemo {
    const { resumeLog } = this.#parts;
    // While another history waits to be handed out, positions are not those of this log.
    if (this.#parts.changes.epoch === this.#epoch) resumeLog.forget(lsn);
    return memoOf(resumeLog.forgotten);
  }

  /** Whether what is being handed out goes past a member at `position`, which joined after it was decided. */
  isLeftOut(position: Position): boolean {
    const current = this.#current;
    return current !== undefined && comparePositions(position, lastOf(current, this.#frontier)) < 0;
  }

  /** While the stream is down a member is told so. */
  #downNotices(channel: Channel): Notice[] {
    const { changes, source, subscriptions } = this.#parts;
    if (changes.isOpen || subscriptions.ofChannel(channel.name).length === 0) return [];
    changes.noteDown();
    const { state } = source;
    const reason = state.status === 'down' ? state.reason : state.status;
    return [{ event: 'database_down', payload: { reason } }];
  }

  /** The cursor, where everything behind it is there; otherwise why not, in a few words. */
  #resumable(channel: Channel, text: string): Cursor | string {
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
    if (resumeLog.hasBehind(position) || this.isLeftOut(position)) replays.add(member, channel, position);
    else this.#places.start(member, position);
  }

  async #run(): Promise<void> {
    const { changes, replays } = this.#parts;
    for (let slice = await changes.next(); slice !== undefined; slice = await changes.next()) {
      if (slice.history !== undefined) this.#begin(slice, slice.history);
      else if (slice.notice !== undefined) this.#announce(slice, slice.notice);
      else await this.#handOut(slice);
      slice.release();
      replays.advanced();
      // Pings and chat come between two slices.
      await nextTurn();
    }
  }

  /** Another history: nobody can go on in the one before. */
  #begin(slice: Slice, { epoch, memo, end, gap }: History): void {
    const { resumeLog, replays, delivery } = this.#parts;
    this.#epoch = epoch;
    this.#frontier = BEGINNING;
    this.#end = positionBefore(end);
    this.#places.clear();
    this.#parts.seats.distrust();
    this.#distrusted = undefined;
    replays.clear();
    resumeLog.reset(forgottenOf(memo));
    for (const [member, asked] of this.#undecided) {
      const place = asked.cursor === undefined ? undefined : this.#resumable(asked.channel, asked.cursor);
      if (typeof place === 'object') this.#places.start(member, place.position);
      else {
        this.#places.start(member, asked.end === undefined ? this.#end : positionBefore(asked.end));
        // A gap that everybody is told of is told to this member with the others.
        if (place !== undefined && gap === undefined) {
          const { event, payload } = gapNotice(place);
          delivery.tell(member, event, payload, slice);
        }
      }
    }
    this.#undecided.clear();
    if (gap !== undefined) this.#announce(slice, gapNotice(gap));
    this.#opened?.();
  }

  async #handOut(slice: Slice): Promise<void> {
    const { router, seats, delivery, resumeLog, replays, subscriptions, counts, log, tally } = this.#parts;
    const { changes: packed } = slice;
    const { first, last } = packed;
    const changes = packed.read();
    this.#current = slice;
    // What a transaction that goes on will do to memberships is there already, and its changes are not.
    if (last.commitLsn !== this.#distrusted && this.#parts.changes.goesOnWith(last, this.#parts.isWatched)) {
      this.#distrusted = last.commitLsn;
      seats.distrust();
    }
    const handOut = async () => {
      const routed = await persevere(
        () => router.route(slice.epoch, changes, seats),
        this.#stopping.signal,
        (error) => {
          tally.changeErrors += 1;
          log.error({ err: error }, 'Row changes could not be judged');
        },
      );
      this.#current = undefined;
      if (this.#stopping.signal.aborted) return;
      if (routed === undefined) this.#giveUp(slice);
      else {
        const placeOf = (member: Subscriber) =>
          replays.comesTo(member, last) ? 'nowhere' : this.#places.of(member, first);
        delivery.deliver(routed.groups, changes, placeOf, slice);
        for (const [subscription, own] of routed.delivered) subscriptions.counted(subscription, own.size);
        counts.add(routed.outcomes);
      }
      resumeLog.append(packed);
      this.#frontier = last;
    };
    await this.#preparation.hold(() => seats.hold(handOut));
  }

  /** A slice that cannot be judged reaches nobody, and whoever waits for its tables is told. */
  #giveUp(slice: Slice): void {
    // What it did to memberships was not taken over.
    this.#parts.seats.distrust();
    const tables = [...new Set(slice.changes.relations.map(({ oid }) => oid))];
    this.#announce(slice, { ...gapNotice('changes could not be judged'), tables });
  }

  #announce(slice: Slice, { event, payload, tables }: Notice): void {
    const { delivery, feeds, personal } = this.#parts;
    const bytes = delivery.system(event, payload);
    const members = new Set<Subscriber>(personal.owners(tables));
    for (const channel of this.#channels(tables)) {
      for (const member of channel.audience.members()) members.add(member);
    }
    for (const member of members) feeds.deliver(member, [bytes], slice);
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

function gapNotice(reason: string): Notice {
  return { event: 'gap', payload: { scope: 'changes', reason } };
}

function lastOf({ changes }: Slice, otherwise: Position): Position {
  return changes.count === 0 ? otherwise : changes.last;
}

function memoOf(forgotten: Forgotten): SinkMemo {
  return Object.fromEntries([...forgotten].map(([oid, position]) => [String(oid), formatPosition(position)]));
}

function forgottenOf(memo: SinkMemo): Forgotten {
  return new Map(Object.entries(memo).map(([oid, text]) => [Number(oid), parsePosition(text)]));
}
