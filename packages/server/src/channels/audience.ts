import type { PresenceMode } from '@goforward/realtime-protocol';
import type { Flushable, Tick } from '../lib/tick.js';
import type { Subscriber } from './subscriber.js';

/** One encoded message pending for the end of the tick, and the members that it is for. */
interface Entry {
  readonly bytes: Buffer;
  /** Sent only to members with this presence mode; null: to all. */
  readonly mode: PresenceMode | null;
  /** The publisher; skipped if its connection has `echo=false`. */
  readonly sender: Subscriber | null;
}

/** Counts the deliveries of an audience; read when metrics are scraped. */
export interface DeliveryCounters {
  deliveries: number;
  fanOutMs: (ms: number) => void;
}

/**
 * Keeps the members of one channel and sends messages to them. Concatenates the messages of one tick of the
 * event loop once per presence mode and pushes the same Buffer to every member of that mode: a message costs
 * one encoding, and one reference per member. All members get messages in the order of `send`.
 */
export class Audience implements Flushable {
  readonly #tick: Tick;
  readonly #counters: DeliveryCounters;
  readonly #members = new Set<Subscriber>();
  readonly #connectionsByUser = new Map<string, number>();
  #batch: Entry[] = [];
  /** Members that are past the first n entries of the batch: they joined later, or were caught up. */
  readonly #caughtUp = new Map<Subscriber, number>();
  #isScheduled = false;

  constructor(tick: Tick, counters: DeliveryCounters) {
    this.#tick = tick;
    this.#counters = counters;
  }

  /** Number of connections, not of users. */
  get size(): number {
    return this.#members.size;
  }

  get users(): string[] {
    return [...this.#connectionsByUser.keys()];
  }

  get userCount(): number {
    return this.#connectionsByUser.size;
  }

  members(): Iterable<Subscriber> {
    return this.#members;
  }

  has(subscriber: Subscriber): boolean {
    return this.#members.has(subscriber);
  }

  /** Returns how many connections of this user are members. */
  connectionsOf(userId: string): number {
    return this.#connectionsByUser.get(userId) ?? 0;
  }

  /** Adds a member. It gets later messages only, not those already sent in this tick. */
  join(subscriber: Subscriber): void {
    if (this.#members.has(subscriber)) return;
    this.#members.add(subscriber);
    this.#connectionsByUser.set(subscriber.userId, this.connectionsOf(subscriber.userId) + 1);
    if (this.#batch.length > 0) this.#caughtUp.set(subscriber, this.#batch.length);
  }

  leave(subscriber: Subscriber): void {
    if (!this.#members.delete(subscriber)) return;
    this.#caughtUp.delete(subscriber);
    const left = this.connectionsOf(subscriber.userId) - 1;
    if (left > 0) this.#connectionsByUser.set(subscriber.userId, left);
    else this.#connectionsByUser.delete(subscriber.userId);
  }

  /** Sends one encoded message to all members, or those of one presence mode, at the end of this tick. */
  send(bytes: Buffer, options: { mode?: PresenceMode; sender?: Subscriber | undefined } = {}): void {
    if (this.#members.size === 0) return;
    this.#batch.push({ bytes, mode: options.mode ?? null, sender: options.sender ?? null });
    if (this.#isScheduled) return;
    this.#isScheduled = true;
    this.#tick.add('channels', this);
  }

  /** Returns whether any member has this presence mode; if not, its messages need not be encoded. */
  hasPresenceMode(mode: PresenceMode): boolean {
    for (const member of this.#members) if (member.presence === mode) return true;
    return false;
  }

  /** Pushes pending messages to one member now, so that a message to it alone, pushed next, is in order. */
  catchUp(subscriber: Subscriber): void {
    if (this.#batch.length === 0 || !this.#members.has(subscriber)) return;
    this.#pushEntries(subscriber, this.#caughtUp.get(subscriber) ?? 0);
    this.#caughtUp.set(subscriber, this.#batch.length);
  }

  flush(): void {
    const started = performance.now();
    try {
      this.#deliver();
    } finally {
      this.#batch = [];
      this.#caughtUp.clear();
      this.#isScheduled = false;
    }
    this.#counters.fanOutMs(performance.now() - started);
  }

  #deliver(): void {
    const noEcho = new Set<Subscriber>();
    for (const { sender } of this.#batch) if (sender !== null && !sender.echo) noEcho.add(sender);
    const sharedByMode = new Map<PresenceMode, { bytes: Buffer; count: number }>();
    for (const member of this.#members) {
      const from = this.#caughtUp.size > 0 ? this.#caughtUp.get(member) : undefined;
      if (from !== undefined || (noEcho.size > 0 && noEcho.has(member))) {
        this.#pushEntries(member, from ?? 0);
        continue;
      }
      let shared = sharedByMode.get(member.presence);
      if (shared === undefined) {
        shared = this.#concatenate(member.presence);
        sharedByMode.set(member.presence, shared);
      }
      if (shared.count === 0) continue;
      member.push(shared.bytes);
      this.#counters.deliveries += shared.count;
    }
  }

  #concatenate(mode: PresenceMode): { bytes: Buffer; count: number } {
    const parts = this.#batch.filter((entry) => entry.mode === null || entry.mode === mode);
    const [first] = parts;
    if (parts.length === 1 && first !== undefined) return { bytes: first.bytes, count: 1 };
    return { bytes: Buffer.concat(parts.map((entry) => entry.bytes)), count: parts.length };
  }

  /** Pushes entry by entry: the slow path, for a member that must not get the whole shared Buffer. */
  #pushEntries(member: Subscriber, from: number): void {
    for (let i = from; i < this.#batch.length; i++) {
      const entry = this.#batch[i];
      if (entry === undefined) continue;
      if (entry.mode !== null && entry.mode !== member.presence) continue;
      if (entry.sender === member && !member.echo) continue;
      member.push(entry.bytes);
      this.#counters.deliveries += 1;
    }
  }
}
