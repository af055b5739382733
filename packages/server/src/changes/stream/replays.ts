import { setTimeout as delay } from 'node:timers/promises';
import type { Channel } from '../../channels/channel.js';
import type { Subscriber } from '../../channels/subscriber.js';
import type { Log } from '../../lib/log.js';
import type { Delivery } from '../delivery/delivery.js';
import type { MemberFeeds } from '../delivery/member-feeds.js';
import type { Page, ResumeLog } from '../log/resume-log.js';
import { comparePositions, type Position } from '../model/position.js';
import type { BatchRouter, RoutedBatch } from '../routing/batch-router.js';
import type { Recipients } from '../routing/recipients.js';
import type { ConditionLimits } from './condition-limits.js';
import { ReplayTurns } from './replay-turns.js';
import { type BatchPart, routeInParts, tablesOfChanges } from './route-in-parts.js';

export interface ReplaysParts {
  readonly resumeLog: ResumeLog;
  readonly router: BatchRouter;
  readonly newRecipients: () => Recipients;
  readonly delivery: Delivery;
  readonly feeds: MemberFeeds;
  readonly conditionLimits: Pick<ConditionLimits, 'charge'>;
  /** The current change epoch. */
  readonly epoch: () => string;
  /** Whether the batch that is being routed now goes past a member at `position`. */
  readonly isBehindCurrentBatch: (position: Position) => boolean;
  /** The tables that a channel is subscribed to, by oid, and MESSAGES. */
  readonly tablesOf: (channel: Channel) => readonly number[];
  /** The tables of a member's personal subscriptions, by oid. */
  readonly ownTablesOf: (member: Subscriber) => readonly number[];
  readonly log: Log;
}

/** A member that catches up with the live stream. */
interface Replay {
  readonly channel: Channel;
  /** The member has everything up to here. */
  position: Position;
  /** How many callers of `pause` have not resumed it yet. */
  pauses: number;
}

interface ReadyMember {
  readonly member: Subscriber;
  readonly replay: Replay;
}

const NONE: readonly number[] = [];
/** Replayed messages retain no batch: pages are read one by one from the resume log. */
const NOT_RETAINED = { retain: () => undefined, release: () => undefined, received: 0 };

/**
 * Replays missed changes to returning members, a page at a time, and one page for all members that need it. A
 * member that has caught up switches to the live stream without a gap or a repeat. A member gets the next
 * page only after it has received the one before, so that slow members do not fill the memory.
 */
export class Replays {
  readonly #parts: ReplaysParts;
  readonly #replays = new Map<Subscriber, Replay>();
  readonly #turns = new ReplayTurns();
  readonly #stopping = new AbortController();
  #running: Promise<void> | undefined;
  #wake: (() => void) | undefined;
  /** Whether members were added since the catalog was checked: what they may see can have changed without a change of rows. */
  #hasNew = false;
  /** Set when `#wakeUp` was called since the last page. */
  #isWoken = false;

  constructor(parts: ReplaysParts) {
    this.#parts = parts;
    parts.feeds.onCaughtUp((member) => {
      if (this.#replays.has(member)) this.#wakeUp();
    });
  }

  /** How many members have not reached the live stream. */
  get size(): number {
    return this.#replays.size;
  }

  /**
   * Whether the member is still behind `last`, the end of a live batch: it gets that batch by replay, not
   * live.
   */
  willReplay(member: Subscriber, last: Position): boolean {
    const replay = this.#replays.get(member);
    return replay !== undefined && comparePositions(replay.position, last) < 0;
  }

  /** Replays all changes after `position` to a member. */
  add(member: Subscriber, channel: Channel, position: Position): void {
    this.#replays.set(member, { channel, position, pauses: 0 });
    this.#hasNew = true;
    this.#running ??= this.#run();
    this.#wakeUp();
  }

  /**
   * Pauses changes for a member that has everything up to `position`, until `resume` was called as often as
   * this.
   */
  pause(member: Subscriber, channel: Channel, position: Position): void {
    const replay = this.#replays.get(member);
    if (replay === undefined) this.#replays.set(member, { channel, position, pauses: 1 });
    else replay.pauses += 1;
  }

  /** Ends a pause: the member gets the changes that it missed, then the live stream. */
  resume(member: Subscriber): void {
    const replay = this.#replays.get(member);
    if (replay === undefined) return;
    replay.pauses -= 1;
    this.#running ??= this.#run();
    this.#wakeUp();
  }

  remove(member: Subscriber): void {
    this.#replays.delete(member);
    this.#wakeUp();
  }

  /** A new change epoch has begun: all members get it from `start`, those that are paused when they resume. */
  restart(start: Position): void {
    for (const [member, replay] of this.#replays) {
      if (replay.pauses > 0) replay.position = start;
      else this.#replays.delete(member);
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
    this.#replays.clear();
    this.#wakeUp();
    await this.#running;
  }

  #wakeUp(): void {
    this.#isWoken = true;
    this.#wake?.();
    this.#wake = undefined;
  }

  async #run(): Promise<void> {
    const { signal } = this.#stopping;
    while (!signal.aborted) {
      const started = performance.now();
      this.#isWoken = false;
      const isBusy = await this.#replayPage();
      // Live changes come first: replays take a quarter of the time, in short pages.
      if (isBusy)
        await delay(3 * (performance.now() - started), undefined, { signal }).catch(() => undefined);
      else if (!this.#isWoken)
        await new Promise<void>((resolve) => {
          this.#wake = resolve;
        });
    }
  }

  /** Replays one page to the members that need it; false: nothing to do until the next `#wakeUp`. */
  async #replayPage(): Promise<boolean> {
    const ready = this.#ready();
    const first = this.#turns.next(ready, this.#replays.keys());
    if (first === undefined) return false;
    const { resumeLog, epoch, log } = this.#parts;
    const epochBefore = epoch();
    let page: Page | undefined;
    try {
      page = await resumeLog.read(first.replay.position);
    } catch (error) {
      log.error({ err: error }, 'The resume window could not be read');
      for (const { member, replay } of ready)
        this.#sendGap(member, replay, 'the resume window could not be read');
      return true;
    }
    if (page === undefined || epoch() !== epochBefore) return false;
    const { end } = page;
    // Members that are further behind get no page that would skip changes for them.
    const cohort = ready.filter(
      ({ replay }) =>
        comparePositions(replay.position, first.replay.position) >= 0 &&
        comparePositions(replay.position, end) < 0,
    );
    await this.#deliver(page, cohort, epochBefore);
    return true;
  }

  /**
   * Returns the members that can take a page, the furthest behind first. Members that have caught up go live;
   * members whose changes are no longer in the resume log get a `gap`.
   */
  #ready(): ReadyMember[] {
    const { feeds, resumeLog, isBehindCurrentBatch, tablesOf, ownTablesOf } = this.#parts;
    const tables = new Map<Channel, readonly number[]>();
    const isCovered = (member: Subscriber, { channel, position }: Replay) => {
      const shared = tables.get(channel) ?? tablesOf(channel);
      tables.set(channel, shared);
      return resumeLog.covers(position, shared) && resumeLog.covers(position, ownTablesOf(member));
    };
    const ready: ReadyMember[] = [];
    for (const [member, replay] of this.#replays) {
      if (!replay.channel.audience.has(member)) this.#replays.delete(member);
      else if (replay.pauses > 0) continue;
      else if (!isCovered(member, replay))
        this.#sendGap(member, replay, 'this connection reads too slowly to catch up');
      else if (feeds.isBehind(member)) continue;
      else if (resumeLog.hasAfter(replay.position)) ready.push({ member, replay });
      else if (!isBehindCurrentBatch(replay.position)) this.#replays.delete(member);
    }
    return ready.sort((a, b) => comparePositions(a.replay.position, b.replay.position));
  }

  async #deliver(page: Page, cohort: readonly ReadyMember[], epochBefore: string): Promise<void> {
    const { router, epoch, log } = this.#parts;
    const recipients = this.#parts.newRecipients();
    const mustAskCatalog = this.#hasNew;
    this.#hasNew = false;
    for (const { member, replay } of cohort) recipients.join(member, replay.channel);
    const parts = await routeInParts(
      page.changes,
      (some) =>
        router.route({ epoch: epochBefore, changes: some, catalogXids: NONE, mustAskCatalog }, recipients),
      this.#stopping.signal,
      (error) => {
        log.error({ err: error }, 'Missed row changes could not be evaluated');
        recipients.invalidateMemberships();
      },
    );
    if (epoch() !== epochBefore || this.#stopping.signal.aborted) return;
    for (const part of parts) this.#deliverPart(part, cohort);
    for (const { replay } of cohort) replay.position = page.end;
  }

  #deliverPart({ changes, routed }: BatchPart<RoutedBatch>, cohort: readonly ReadyMember[]): void {
    const { delivery, conditionLimits, tablesOf, ownTablesOf } = this.#parts;
    if (routed !== undefined) {
      const positionOf = (member: Subscriber) => this.#replays.get(member)?.position;
      delivery.deliver(routed.deliveries, changes, positionOf, NOT_RETAINED);
      conditionLimits.charge(routed.costs);
      return;
    }
    const lost = new Set(tablesOfChanges(changes));
    const gap = { scope: 'changes', reason: 'changes could not be evaluated' };
    for (const { member, replay } of cohort) {
      const tables = [...tablesOf(replay.channel), ...ownTablesOf(member)];
      if (tables.some((oid) => lost.has(oid))) delivery.send(member, 'gap', gap, NOT_RETAINED);
    }
  }

  /**
   * Ends a replay with a `gap`: missed changes are lost for the member, which gets live changes from here on.
   */
  #sendGap(member: Subscriber, { channel }: Replay, reason: string): void {
    this.#replays.delete(member);
    if (channel.audience.has(member))
      this.#parts.delivery.send(member, 'gap', { scope: 'changes', reason }, NOT_RETAINED);
  }
}
