import type { Channel } from '../../channels/channel.js';
import type { Subscriber } from '../../channels/subscriber.js';
import type { Clock } from '../../lib/clock.js';
import type { Log } from '../../lib/log.js';
import type { Delivery } from '../delivery/delivery.js';
import type { MemberFeeds } from '../delivery/member-feeds.js';
import type { Page, ResumeLog } from '../log/resume-log.js';
import { comparePositions, type Position } from '../model/position.js';
import type { SubscriptionTarget } from '../model/recipient-group.js';
import type { BatchRouter, RoutedBatch } from '../routing/batch-router.js';
import type { Recipients } from '../routing/recipients.js';
import type { Undecided } from '../visibility/authorizer.js';
import { Deadline } from '../visibility/deadline.js';
import { CohortSize } from './cohort-size.js';
import type { ConditionLimits } from './condition-limits.js';
import { Lane, QUIET_MS } from './lane.js';
import type { OutcomeCounts } from './outcome-counts.js';
import { PageRecipients } from './page-recipients.js';
import { ReplayTurns } from './replay-turns.js';
import { ReplayWorker } from './replay-worker.js';
import { type BatchPart, routeInParts, tablesOfChanges, undecidedMembers } from './route-in-parts.js';

export interface ReplaysParts {
  readonly resumeLog: ResumeLog;
  /** Routes pages for many members. */
  readonly router: BatchRouter;
  /** Routes pages for one slow user, at the same time. */
  readonly slowRouter: BatchRouter;
  readonly newRecipients: () => Recipients;
  readonly delivery: Delivery;
  readonly feeds: MemberFeeds;
  readonly conditionLimits: Pick<ConditionLimits, 'charge'>;
  readonly outcomeCounts: Pick<OutcomeCounts, 'countReplay'>;
  /** The current change epoch. */
  readonly epoch: () => string;
  /** Whether the batch that is being routed now goes past a member at `position`. */
  readonly isBehindCurrentBatch: (position: Position) => boolean;
  /** The position after which a member goes on that has lost what committed before. */
  readonly restartPosition: () => Position;
  /** Called for a member that gets all changes live from the next batch on. */
  readonly goLive: (member: Subscriber, channel: Channel) => void;
  /** The tables that a channel is subscribed to, by oid, and MESSAGES. */
  readonly tablesOf: (channel: Channel) => readonly number[];
  /** The tables of a member's personal subscriptions, by oid. */
  readonly ownTablesOf: (member: Subscriber) => readonly number[];
  readonly clock: Clock;
  readonly log: Log;
}

/** A member that catches up with the live stream. */
interface Replay {
  readonly channel: Channel;
  readonly lane: Lane;
  /** The member has everything up to here. */
  position: Position;
  /** How many callers of `pause` have not resumed it yet. */
  pauses: number;
  /** Whether live batches are routed for the member, too, and those that it does not need are skipped. */
  isRoutedLive: boolean;
  /** Whether it left the live stream because it was not decided in time. */
  isDelayed: boolean;
  /** Whether the catalog must be checked for it: what it may see can have changed without a change of rows. */
  isNew: boolean;
  /** Whether a page for it is being routed. */
  isBusy: boolean;
}

interface ReadyMember {
  readonly member: Subscriber;
  readonly replay: Replay;
}

/** Members that get the same page. */
interface Cohort {
  readonly members: readonly ReadyMember[];
  readonly page: Page;
  readonly epoch: string;
  readonly router: BatchRouter;
  readonly recipients: PageRecipients;
  /** Missing: the members wait for as long as their own evaluations take. */
  readonly deadline?: Deadline;
}

/** How long the members of a shared page wait for PostgreSQL, in ms. */
const SHARED_PAGE_MS = 250;
/** How long a page of one slow user is tried again while PostgreSQL is not ready for it, in ms: others take their turns. */
const OWN_PAGE_MS = 5_000;
/** More transactions than are committed at any time without being visible to others yet. */
const MAX_CATALOG_XIDS = 1_000;
const NONE: readonly number[] = [];
/** Replayed messages retain no batch: pages are read one by one from the resume log. */
const NOT_RETAINED = { retain: () => undefined, release: () => undefined, received: 0 };

/**
 * Replays missed changes to returning members, and to those for which the live stream did not wait: a page at a time, and
 * one page for all members that need it. A member that has caught up switches to the live stream without a gap or a
 * repeat, unless its pages were slow lately. A member gets the next page only after it has received the one before, so
 * that slow members do not fill the memory. Pages of slow members are routed beside those of all others.
 */
export class Replays {
  readonly #parts: ReplaysParts;
  readonly #replays = new Map<Subscriber, Replay>();
  readonly #turns = new ReplayTurns();
  readonly #cohortSize = new CohortSize();
  readonly #shared: PageRecipients;
  readonly #own: PageRecipients;
  readonly #stopping = new AbortController();
  #quiet: NodeJS.Timeout | undefined;
  /** Transactions of live batches that may have changed the catalog. Pages can have their rows. */
  #catalogXids = NONE;
  readonly #workers: readonly ReplayWorker[];

  constructor(parts: ReplaysParts) {
    this.#parts = parts;
    this.#shared = new PageRecipients(parts.newRecipients);
    this.#own = new PageRecipients(parts.newRecipients);
    const { signal } = this.#stopping;
    this.#workers = [
      new ReplayWorker(() => this.#replaySharedPage(), signal),
      new ReplayWorker(() => this.#replayOwnPage(), signal),
    ];
    parts.feeds.onCaughtUp((member) => {
      if (this.#replays.has(member)) this.#wakeUp();
    });
  }

  /** How many members have not reached the live stream. */
  get size(): number {
    return this.#replays.size;
  }

  /** How many of them left the live stream because they were not decided in time. */
  get delayedCount(): number {
    let count = 0;
    for (const { isDelayed } of this.#replays.values()) if (isDelayed) count += 1;
    return count;
  }

  /** The channels and connections of these members. */
  get delayedTargets(): ReadonlySet<SubscriptionTarget> {
    const targets = new Set<SubscriptionTarget>();
    for (const [member, { isDelayed, channel }] of this.#replays)
      if (isDelayed) targets.add(member).add(channel.name);
    return targets;
  }

  /**
   * Whether the member is still behind `last`, the end of a live batch: it gets that batch by replay, not
   * live.
   */
  willReplay(member: Subscriber, last: Position): boolean {
    const replay = this.#replays.get(member);
    return replay !== undefined && comparePositions(replay.position, last) < 0;
  }

  /** Replays all changes after `position` to a member, which then goes live. */
  add(member: Subscriber, channel: Channel, position: Position): void {
    this.#replays.set(member, replayOf(channel, position));
    this.#wakeUp();
  }

  /** Goes on with a member that the live stream does not wait for, and which has everything up to `position`. */
  addUndecided(member: Subscriber, channel: Channel, position: Position, why: Undecided): void {
    const replay = this.#replays.get(member) ?? replayOf(channel, position);
    replay.isRoutedLive = false;
    replay.isDelayed = true;
    replay.lane.undecided(why, this.#parts.clock());
    this.#replays.set(member, replay);
    this.#wakeUp();
  }

  /**
   * Pauses changes for a member that has everything up to `position`, until `resume` was called as often as
   * this.
   */
  pause(member: Subscriber, channel: Channel, position: Position): void {
    const replay = this.#replays.get(member);
    if (replay !== undefined) replay.pauses += 1;
    else this.#replays.set(member, { ...replayOf(channel, position), pauses: 1, isRoutedLive: true });
  }

  /** Ends a pause: the member gets the changes that it missed, then the live stream. */
  resume(member: Subscriber): void {
    const replay = this.#replays.get(member);
    if (replay === undefined) return;
    replay.pauses -= 1;
    this.#wakeUp();
  }

  remove(member: Subscriber): void {
    this.#replays.delete(member);
    this.#wakeUp();
  }

  /** Has membership lists read again: PostgreSQL shows what the rest of a transaction does to them. */
  invalidateMemberships(): void {
    this.#shared.drop();
    this.#own.drop();
  }

  /** Called for live batches: transactions that may have changed the catalog after their rows. */
  catalogChanged(xids: readonly number[]): void {
    if (xids.length === 0) return;
    const before = this.#replays.size === 0 ? NONE : this.#catalogXids;
    this.#catalogXids = [...new Set([...before, ...xids])].slice(-MAX_CATALOG_XIDS);
  }

  /** A new change epoch has begun: all members get it from `start`, those that are paused when they resume. */
  restart(start: Position): void {
    this.#catalogXids = NONE;
    for (const [member, replay] of this.#replays) {
      if (replay.pauses > 0) replay.position = start;
      else this.#goLive(member, replay);
    }
  }

  /**
   * Called after each live batch: members may have reached the live stream, or have new changes to replay.
   */
  advanced(): void {
    if (this.#replays.size > 0) this.#wakeUp();
  }

  async stop(): Promise<void> {
    this.#stopping.abort();
    clearTimeout(this.#quiet);
    this.#replays.clear();
    await Promise.all(this.#workers.map((worker) => worker.stop()));
  }

  #wakeUp(): void {
    for (const worker of this.#workers) worker.wakeUp();
  }

  /** Replays one page to all members that need it and are not slow; false: nothing to do until the next `#wakeUp`. */
  async #replaySharedPage(): Promise<boolean> {
    const { router, clock } = this.#parts;
    const ready = this.#ready('shared');
    const first = this.#turns.next(ready, this.#replays.keys());
    if (first === undefined) return false;
    const deadline = new Deadline(SHARED_PAGE_MS, clock);
    const others = ready.filter((each) => each !== first);
    const { limit } = this.#cohortSize;
    return this.#replayPage(first, others, limit, { router, recipients: this.#shared, deadline });
  }

  /** Replays one page to the members of one slow user. */
  async #replayOwnPage(): Promise<boolean> {
    const ready = this.#ready('own');
    const first = this.#turns.next(ready, this.#replays.keys());
    if (first === undefined) return false;
    const user = first.member.identity.limitedAs;
    const others = ready.filter((each) => each !== first && each.member.identity.limitedAs === user);
    const router = this.#parts.slowRouter;
    return this.#replayPage(first, others, Number.POSITIVE_INFINITY, { router, recipients: this.#own });
  }

  async #replayPage(
    first: ReadyMember,
    others: readonly ReadyMember[],
    limit: number,
    how: Pick<Cohort, 'router' | 'recipients' | 'deadline'>,
  ): Promise<boolean> {
    const { resumeLog, epoch, log } = this.#parts;
    const epochBefore = epoch();
    let page: Page | undefined;
    try {
      page = await resumeLog.read(first.replay.position);
    } catch (error) {
      log.error({ err: error }, 'The resume window could not be read');
      for (const { member, replay } of [first, ...others])
        this.#sendGap(member, replay, 'the resume window could not be read');
      return true;
    }
    if (page === undefined || epoch() !== epochBefore) return false;
    const { end } = page;
    // Members that are further behind get no page that would skip changes for them.
    const sharing = others.filter(
      ({ replay }) =>
        comparePositions(replay.position, first.replay.position) >= 0 &&
        comparePositions(replay.position, end) < 0,
    );
    const members = [first, ...sharing].slice(0, limit);
    for (const { replay } of members) replay.isBusy = true;
    try {
      await this.#deliver({ ...how, members, page, epoch: epochBefore });
    } finally {
      for (const { replay } of members) replay.isBusy = false;
    }
    // Members may have changed the lane.
    this.#wakeUp();
    return true;
  }

  /**
   * Returns the members of a lane that can take a page, the furthest behind first. Members that have caught up go live;
   * members whose changes are no longer in the resume log get a `gap`.
   */
  #ready(kind: Lane['kind']): ReadyMember[] {
    const { feeds, resumeLog, isBehindCurrentBatch, clock } = this.#parts;
    const isCovered = this.#coverage();
    const now = clock();
    const ready: ReadyMember[] = [];
    for (const [member, replay] of this.#replays) {
      if (replay.isBusy) continue;
      if (!replay.channel.audience.has(member)) this.#replays.delete(member);
      else if (replay.pauses > 0) continue;
      else if (!isCovered(member, replay)) this.#sendGap(member, replay, reasonOf(replay));
      else if (feeds.isBehind(member)) continue;
      else if (resumeLog.hasAfter(replay.position)) {
        if (replay.lane.kind === kind) ready.push({ member, replay });
      } else if (!isBehindCurrentBatch(replay.position)) {
        if (replay.lane.isQuick(now)) this.#goLive(member, replay);
        else this.#quiet ??= setTimeout(() => this.#afterQuiet(), QUIET_MS).unref();
      }
    }
    return ready.sort((a, b) => comparePositions(a.replay.position, b.replay.position));
  }

  /** Returns whether the resume log has all that a member needs. Reads the tables of each channel once. */
  #coverage(): (member: Subscriber, replay: Replay) => boolean {
    const { resumeLog, tablesOf, ownTablesOf } = this.#parts;
    const tables = new Map<Channel, readonly number[]>();
    return (member, { channel, position }) => {
      const shared = tables.get(channel) ?? tablesOf(channel);
      tables.set(channel, shared);
      return resumeLog.covers(position, shared) && resumeLog.covers(position, ownTablesOf(member));
    };
  }

  /** Members may have been quick for long enough, without another batch. */
  #afterQuiet(): void {
    this.#quiet = undefined;
    this.#wakeUp();
  }

  #goLive(member: Subscriber, { channel, isRoutedLive }: Replay): void {
    this.#replays.delete(member);
    if (!isRoutedLive) this.#parts.goLive(member, channel);
  }

  async #deliver(cohort: Cohort): Promise<void> {
    const { epoch, clock } = this.#parts;
    const started = clock();
    const pageMembers = cohort.members.map(({ member, replay: { channel, position } }) => ({
      member,
      channel,
      position,
    }));
    const recipients = cohort.recipients.of(pageMembers);
    const parts = await this.#route(cohort, recipients);
    if (epoch() !== cohort.epoch || this.#stopping.signal.aborted) return;
    const now = clock();
    if (parts === undefined) {
      for (const { replay } of cohort.members) replay.lane.undecided('slow', now);
      return;
    }
    const undecided = undecidedMembers(parts);
    const decided = cohort.members.filter(({ member }) => !undecided.has(member));
    for (const part of parts) this.#deliverPart(part, decided);
    if (undecided.size === 0) cohort.recipients.keep(recipients, pageMembers, cohort.page.end);
    const hasAsked = cohort.deadline?.hasBegun !== false;
    for (const { replay } of decided) {
      replay.position = cohort.page.end;
      replay.isNew = false;
      replay.lane.decided(hasAsked ? now - started : 0, now);
    }
    for (const { member, replay } of cohort.members) {
      const found = undecided.get(member);
      if (found !== undefined) replay.lane.undecided(cohort.members.length === 1 ? 'slow' : found.why, now);
    }
    if (cohort.deadline !== undefined) this.#cohortSize.tried(cohort.members.length, decided.length > 0);
  }

  /** Returns undefined if PostgreSQL has not been ready for too long. */
  async #route({ members, page, epoch, router, deadline }: Cohort, recipients: Recipients) {
    const { signal } = this.#stopping;
    const catalogXids = this.#catalogXids;
    const mustAskCatalog = members.some(({ replay }) => replay.isNew);
    const timeout = deadline === undefined ? AbortSignal.timeout(OWN_PAGE_MS) : undefined;
    const parts = await routeInParts(
      page.changes,
      (some) => router.route({ epoch, changes: some, catalogXids, mustAskCatalog }, recipients, deadline),
      timeout === undefined ? signal : AbortSignal.any([signal, timeout]),
      (error) => {
        this.#parts.log.error({ err: error }, 'Missed row changes could not be evaluated');
        recipients.invalidateMemberships();
      },
    );
    const isWhole = parts.length === 1 && parts[0]?.routed !== undefined;
    return timeout?.aborted === true && !isWhole ? undefined : parts;
  }

  #deliverPart({ changes, routed }: BatchPart<RoutedBatch>, members: readonly ReadyMember[]): void {
    const { delivery, conditionLimits, outcomeCounts, tablesOf, ownTablesOf } = this.#parts;
    if (routed !== undefined) {
      const replays = new Map(members.map(({ member, replay }) => [member, replay]));
      const positionOf = (member: Subscriber) => {
        const replay = replays.get(member);
        return replay !== undefined && this.#replays.get(member) === replay ? replay.position : 'skip';
      };
      delivery.deliver(routed.deliveries, changes, positionOf, NOT_RETAINED);
      conditionLimits.charge(routed.costs);
      const last = changes.at(-1);
      const delayed = members.filter(({ replay }) => replay.isDelayed);
      if (last === undefined || delayed.length === 0) return;
      const end = { commitLsn: last.transaction.commitLsn, index: last.index };
      const targets = new Set(delayed.flatMap(({ member, replay }) => [member, replay.channel.name]));
      outcomeCounts.countReplay(routed, end, targets);
      return;
    }
    const lost = new Set(tablesOfChanges(changes));
    const gap = { scope: 'changes', reason: 'changes could not be evaluated' };
    for (const { member, replay } of members) {
      const tables = [...tablesOf(replay.channel), ...ownTablesOf(member)];
      if (tables.some((oid) => lost.has(oid))) delivery.send(member, 'gap', gap, NOT_RETAINED);
    }
  }

  /** Sends a `gap`: missed changes are lost for the member, which gets those from here on, live if none is being routed. */
  #sendGap(member: Subscriber, replay: Replay, reason: string): void {
    const position = this.#parts.restartPosition();
    if (replay.isRoutedLive || !this.#parts.isBehindCurrentBatch(position)) this.#goLive(member, replay);
    else replay.position = position;
    if (replay.channel.audience.has(member))
      this.#parts.delivery.send(member, 'gap', { scope: 'changes', reason }, NOT_RETAINED);
  }
}

function replayOf(channel: Channel, position: Position): Replay {
  return {
    channel,
    lane: new Lane(),
    position,
    pauses: 0,
    isRoutedLive: false,
    isDelayed: false,
    isNew: true,
    isBusy: false,
  };
}

function reasonOf({ isDelayed }: Replay): string {
  return isDelayed
    ? 'changes could not be evaluated as fast as they were made'
    : 'this connection reads too slowly to catch up';
}
