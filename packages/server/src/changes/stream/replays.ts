import { setTimeout as delay } from 'node:timers/promises';
import type { Channel } from '../../channels/channel.js';
import type { Subscriber } from '../../channels/subscriber.js';
import type { Log } from '../../lib/log.js';
import type { Delivery } from '../delivery/delivery.js';
import type { MemberFeeds } from '../delivery/member-feeds.js';
import type { Page, ResumeLog } from '../log/resume-log.js';
import { comparePositions, type Position } from '../model/position.js';
import type { BatchRouter } from '../routing/batch-router.js';
import type { Recipients } from '../routing/recipients.js';
import { retry } from './retry.js';

export interface ReplaysParts {
  readonly resumeLog: ResumeLog;
  readonly router: BatchRouter;
  readonly newRecipients: () => Recipients;
  readonly delivery: Delivery;
  readonly feeds: MemberFeeds;
  /** The history that is handed out at the moment. */
  readonly epoch: () => string;
  /** Whether what is being handed out at the moment leaves out a member that is at `position`. */
  readonly isBehindCurrentBatch: (position: Position) => boolean;
  /** What the members of a channel get: the tables that it is subscribed to, by oid, and messages. */
  readonly tablesOf: (channel: Channel) => readonly number[];
  /** The tables that a member is subscribed to by itself, by oid. */
  readonly ownTablesOf: (member: Subscriber) => readonly number[];
  readonly log: Log;
}

interface Replay {
  readonly channel: Channel;
  position: Position;
  /** How many want it to get nothing for the time being. */
  pauses: number;
}

/** What is kept while a page is handed out: nothing, the pages are read one by one. */
const NOT_RETAINED = { retain: () => undefined, release: () => undefined, received: 0 };

/**
 * Hands members that come back what they missed, a page at a time, many members at once where they are at the same
 * place; whoever has everything goes over to what is handed out live, without a gap or a repeat. A member gets the next
 * page when it has taken the one before: nobody's slowness fills the memory.
 */
export class Replays {
  readonly #parts: ReplaysParts;
  readonly #replays = new Map<Subscriber, Replay>();
  readonly #stopping = new AbortController();
  #running: Promise<void> | undefined;
  #wake: (() => void) | undefined;
  /** Somebody has woken us since we last looked. */
  #isWoken = false;

  constructor(parts: ReplaysParts) {
    this.#parts = parts;
    parts.feeds.onCaughtUp((member) => {
      if (this.#replays.has(member)) this.#wakeUp();
    });
  }

  /** Members that have not reached the live stream. */
  get size(): number {
    return this.#replays.size;
  }

  /** Whether the member, still catching up, does not get what is handed out up to `last`: it will come to it. */
  willReplay(member: Subscriber, last: Position): boolean {
    const replay = this.#replays.get(member);
    return replay !== undefined && comparePositions(replay.position, last) < 0;
  }

  /** The member has everything up to `position`. */
  add(member: Subscriber, channel: Channel, position: Position): void {
    this.#replays.set(member, { channel, position, pauses: 0 });
    this.#running ??= this.#run();
    this.#wakeUp();
  }

  /** The member, which has everything up to `position`, gets nothing until `goOn`, as often as it was held. */
  retain(member: Subscriber, channel: Channel, position: Position): void {
    const replay = this.#replays.get(member);
    if (replay === undefined) this.#replays.set(member, { channel, position, pauses: 1 });
    else replay.pauses += 1;
  }

  /** The member gets what has come meanwhile, and goes on. */
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

  /** Another history has begun, of which everybody gets everything. */
  clear(): void {
    this.#replays.clear();
  }

  /** What is handed out live has come further. */
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
      const isBusy = await this.#step();
      // What is live comes first: replays take a quarter of the time, in short pages.
      if (isBusy)
        await delay(3 * (performance.now() - started), undefined, { signal }).catch(() => undefined);
      else if (!this.#isWoken)
        await new Promise<void>((resolve) => {
          this.#wake = resolve;
        });
    }
  }

  /** Hands out one page; false when there is nothing to do until somebody wakes us. */
  async #step(): Promise<boolean> {
    const ready = this.#ready();
    const [first] = ready;
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
    const cohort = ready.filter(({ replay }) => comparePositions(replay.position, end) < 0);
    await this.#deliver(page, cohort, epochBefore);
    return true;
  }

  /** Those who can take a page, the furthest behind first. Who has everything goes live, who cannot have it is told. */
  #ready(): { member: Subscriber; replay: Replay }[] {
    const { feeds, resumeLog, isBehindCurrentBatch, tablesOf, ownTablesOf } = this.#parts;
    const tables = new Map<Channel, readonly number[]>();
    const isCovered = (member: Subscriber, { channel, position }: Replay) => {
      const shared = tables.get(channel) ?? tablesOf(channel);
      tables.set(channel, shared);
      return resumeLog.covers(position, shared) && resumeLog.covers(position, ownTablesOf(member));
    };
    const ready: { member: Subscriber; replay: Replay }[] = [];
    for (const [member, replay] of this.#replays) {
      if (!replay.channel.audience.has(member)) this.#replays.delete(member);
      else if (!isCovered(member, replay))
        this.#sendGap(member, replay, 'this connection reads too slowly to catch up');
      else if (replay.pauses > 0 || feeds.isBehind(member)) continue;
      else if (resumeLog.hasAfter(replay.position)) ready.push({ member, replay });
      else if (!isBehindCurrentBatch(replay.position)) this.#replays.delete(member);
    }
    return ready.sort((a, b) => comparePositions(a.replay.position, b.replay.position));
  }

  async #deliver(
    page: Page,
    cohort: readonly { member: Subscriber; replay: Replay }[],
    epochBefore: string,
  ): Promise<void> {
    const { router, delivery, epoch, log } = this.#parts;
    const recipients = this.#parts.newRecipients();
    for (const { member, replay } of cohort) recipients.join(member, replay.channel);
    const routed = await retry(
      () => router.route(epochBefore, page.changes, recipients),
      this.#stopping.signal,
      (error) => log.error({ err: error }, 'Missed row changes could not be judged'),
    );
    if (epoch() !== epochBefore || this.#stopping.signal.aborted) return;
    if (routed === undefined) {
      for (const { member, replay } of cohort) this.#sendGap(member, replay, 'changes could not be judged');
      return;
    }
    const positionOf = (member: Subscriber) => this.#replays.get(member)?.position;
    delivery.deliver(routed.deliveries, page.changes, positionOf, NOT_RETAINED);
    for (const { replay } of cohort) replay.position = page.end;
  }

  /** The member cannot have what it missed: it is told, and gets what comes. */
  #sendGap(member: Subscriber, { channel }: Replay, reason: string): void {
    this.#replays.delete(member);
    if (channel.audience.has(member))
      this.#parts.delivery.send(member, 'gap', { scope: 'changes', reason }, NOT_RETAINED);
  }
}
