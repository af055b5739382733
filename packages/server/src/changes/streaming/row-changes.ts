import { setTimeout as delay, setImmediate as nextTurn } from 'node:timers/promises';
import { ProtocolError } from '@goforward/realtime-protocol';
import { SYSTEM_USER } from '../../auth/identity.js';
import type { Channel } from '../../channels/channel.js';
import type { MessageEncoder } from '../../channels/message-encoder.js';
import type { Subscriber } from '../../channels/subscriber.js';
import type { Log } from '../../lib/log.js';
import type { ChangeSource } from '../../postgres/change-source.js';
import { StaleFacts } from '../authorizer.js';
import type { Subscription } from '../subscriptions/subscription.js';
import type { TableFacts } from '../table-facts.js';
import type { ChangeLog } from './change-log.js';
import type { Group } from './groups.js';
import type { MemberFeeds } from './member-feeds.js';
import { Pieces } from './pieces.js';
import type { Notice, Slice } from './slice.js';
import type { Routed, SliceRouter } from './slice-router.js';

/** Counts what members get; read when metrics are scraped. */
interface DeliveryCounts {
  deliveries: number;
  changesDelivered: number;
  changeErrors: number;
}

export interface RowChangesParts {
  readonly source: ChangeSource;
  readonly changes: ChangeLog;
  readonly router: SliceRouter;
  readonly feeds: MemberFeeds;
  readonly subscriptions: {
    list(): readonly Subscription[];
    ofChannel(name: string): readonly Subscription[];
    counted(subscription: Subscription, changes: number): void;
  };
  readonly channel: (name: string) => Channel | undefined;
  readonly encoder: MessageEncoder;
  readonly tally: DeliveryCounts;
  readonly log: Log;
}

/** How often members that make no progress are looked for, in ms. */
const WATCH_MS = 1_000;
/** Pauses before a slice is tried again, in ms. */
const FIRST_PAUSE_MS = 50;
const LONGEST_PAUSE_MS = 1_000;
/** A slice that fails so often for a reason of its own is given up, with a gap. */
const ATTEMPTS = 3;

/** The stream of row changes from its source to the members of channels: one slice after the other. */
export class RowChanges {
  readonly #parts: RowChangesParts;
  readonly #stopping = new AbortController();
  /** What each member was told of policies and conditions that fail: once for each subscription and state of the table. */
  readonly #told = new WeakMap<Subscriber, Map<string, TableFacts>>();
  #watch: NodeJS.Timeout | undefined;
  #running: Promise<void> | undefined;

  constructor(parts: RowChangesParts) {
    this.#parts = parts;
  }

  get source(): Pick<ChangeSource, 'state' | 'stats'> {
    return this.#parts.source;
  }

  /** Members that have not taken everything yet. */
  get membersBehind(): number {
    return this.#parts.feeds.behind;
  }

  start(): void {
    const { source, changes, feeds } = this.#parts;
    changes.connect(source);
    this.#running = this.#run();
    this.#watch = setInterval(() => feeds.cutOffSlow(changes), WATCH_MS).unref();
    source.start(changes);
  }

  async stop(): Promise<void> {
    const { source, changes } = this.#parts;
    this.#stopping.abort();
    clearInterval(this.#watch);
    await source.stop();
    changes.end();
    await this.#running;
  }

  /** A member has joined: while the stream is down it is told so. */
  joined(member: Subscriber, channel: Channel): void {
    const { changes, source, subscriptions } = this.#parts;
    if (changes.isOpen || subscriptions.ofChannel(channel.name).length === 0) return;
    changes.noteDown();
    const { state } = source;
    member.push(
      this.#system('database_down', { reason: state.status === 'down' ? state.reason : state.status }),
    );
  }

  left(member: Subscriber): void {
    this.#parts.feeds.left(member);
  }

  /** Tells something to the members of the channels that are subscribed to these tables (missing: to any), behind the changes so far. */
  tell(notice: Notice): void {
    this.#parts.changes.tell(notice);
  }

  async #run(): Promise<void> {
    const { changes } = this.#parts;
    for (let slice = await changes.next(); slice !== undefined; slice = await changes.next()) {
      if (slice.notice === undefined) await this.#handOut(slice);
      else this.#announce(slice, slice.notice);
      slice.release();
      // Pings and chat come between two slices.
      await nextTurn();
    }
  }

  async #handOut(slice: Slice): Promise<void> {
    const routed = await this.#route(slice);
    if (routed === undefined) return;
    const { feeds, tally, subscriptions } = this.#parts;
    const pieces = new Pieces();
    for (const group of routed.groups) {
      const bytes = pieces.of(group.lists);
      const count = group.lists.reduce((sum, list) => sum + list.length, 0);
      for (const member of group.members) {
        if (!group.channel.audience.has(member)) continue;
        if (group.failed.size > 0) this.#tellFailures(member, group, slice);
        if (bytes.length === 0) continue;
        feeds.deliver(member, bytes, slice);
        tally.deliveries += count;
        tally.changesDelivered += count;
      }
    }
    for (const [subscription, changes] of routed.delivered) subscriptions.counted(subscription, changes.size);
  }

  /** What becomes of a slice; undefined when it was given up, or the server stops. */
  async #route(slice: Slice): Promise<Routed | undefined> {
    const { router, log, tally } = this.#parts;
    let pause = FIRST_PAUSE_MS;
    for (let failures = 0; !this.#stopping.signal.aborted; ) {
      try {
        return await router.route(slice);
      } catch (error) {
        const mayPass = error instanceof StaleFacts || isUnavailable(error);
        if (!mayPass) {
          failures += 1;
          tally.changeErrors += 1;
          log.error({ err: error }, 'Row changes could not be judged');
          if (failures === ATTEMPTS) {
            this.#giveUp(slice);
            return undefined;
          }
        }
      }
      await delay(pause, undefined, { signal: this.#stopping.signal }).catch(() => undefined);
      pause = Math.min(pause * 2, LONGEST_PAUSE_MS);
    }
    return undefined;
  }

  /** A slice that cannot be judged reaches nobody, and whoever waits for its tables is told. */
  #giveUp(slice: Slice): void {
    const tables = [...new Set(slice.changes.relations.map(({ oid }) => oid))];
    const payload = { scope: 'changes', reason: 'changes could not be judged' };
    this.#announce(slice, { event: 'gap', payload, tables });
  }

  #announce(slice: Slice, { event, payload, tables }: Notice): void {
    const bytes = this.#system(event, payload);
    for (const channel of this.#channels(tables)) {
      for (const member of channel.audience.members()) this.#parts.feeds.deliver(member, [bytes], slice);
    }
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

  #tellFailures(member: Subscriber, group: Group, slice: Slice): void {
    let told = this.#told.get(member);
    if (told === undefined) {
      told = new Map();
      this.#told.set(member, told);
    }
    for (const [{ id }, facts] of group.failed) {
      if (told.get(id) === facts) continue;
      told.set(id, facts);
      const { body } = new ProtocolError('POLICY_ERROR', { fields: { subscription_id: id } });
      this.#parts.feeds.deliver(member, [this.#system('error', body)], slice);
    }
  }

  #system(event: string, payload: unknown): Buffer {
    const { encoder } = this.#parts;
    return encoder.encode(encoder.message('system', event, payload, SYSTEM_USER));
  }
}

function isUnavailable(error: unknown): boolean {
  return error instanceof ProtocolError && error.code === 'DATABASE_UNAVAILABLE';
}
