import type { PresenceMode } from '@goforward/realtime-protocol';
import type { Flushable, Tick } from '../lib/tick.js';
import type { Subscriber } from './subscriber.js';

/** One encoded message waiting for the end of the turn, and which members it is not for. */
interface Entry {
  readonly bytes: Buffer;
  /** Only members with this presence mode get it; null: everyone. */
  readonly mode: PresenceMode | null;
  /** Who published it: skipped if that member wants no echo. */
  readonly sender: Subscriber | null;
}

/** Counts what an audience hands on; read when metrics are scraped. */
export interface DeliveryCounters {
  deliveries: number;
  fanOutMs: (ms: number) => void;
}

/**
 * The members of one channel and the fan-out to them. What is sent in one turn of the event loop is joined
 * once per presence mode, and every member of that mode is handed the same Buffer: the cost of a message is
 * one encoding, and one reference per member. Order is the order of `send`, for every member alike.
 */
export class Audience implements Flushable {
  readonly #tick: Tick;
  readonly #counters: DeliveryCounters;
  readonly #members = new Set<Subscriber>();
  readonly #connectionsByUser = new Map<string, number>();
  #batch: Entry[] = [];
  /** Members that have already taken the first n entries of the batch (they joined later, or were caught up). */
  readonly #taken = new Map<Subscriber, number>();
  #waiting = false;

  constructor(tick: Tick, counters: DeliveryCounters) {
    this.#tick = tick;
    this.#counters = counters;
  }

  /** Connections, not users. */
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

  /** How many connections of this user are members. */
  connectionsOf(userId: string): number {
    return this.#connectionsByUser.get(userId) ?? 0;
  }

  /** From here on `subscriber` gets what is sent; nothing that was sent earlier in this turn. */
  join(subscriber: Subscriber): void {
    if (this.#members.has(subscriber)) return;
    this.#members.add(subscriber);
    this.#connectionsByUser.set(subscriber.userId, this.connectionsOf(subscriber.userId) + 1);
    if (this.#batch.length > 0) this.#taken.set(subscriber, this.#batch.length);
  }

  leave(subscriber: Subscriber): void {
    if (!this.#members.delete(subscriber)) return;
    this.#taken.delete(subscriber);
    const left = this.connectionsOf(subscriber.userId) - 1;
    if (left > 0) this.#connectionsByUser.set(subscriber.userId, left);
    else this.#connectionsByUser.delete(subscriber.userId);
  }

  /** Sends one encoded message to all members (of one presence mode), at the end of this turn. */
  send(bytes: Buffer, options: { mode?: PresenceMode; sender?: Subscriber | undefined } = {}): void {
    if (this.#members.size === 0) return;
    this.#batch.push({ bytes, mode: options.mode ?? null, sender: options.sender ?? null });
    if (this.#waiting) return;
    this.#waiting = true;
    this.#tick.add('channels', this);
  }

  /** Whether any member wants this kind of presence messages: what nobody wants is not encoded. */
  wants(mode: PresenceMode): boolean {
    for (const member of this.#members) if (member.presence === mode) return true;
    return false;
  }

  /**
   * Hands `subscriber` what waits for it now, so that a message addressed to it alone, pushed next, keeps
   * its place in the order.
   */
  catchUp(subscriber: Subscriber): void {
    if (this.#batch.length === 0 || !this.#members.has(subscriber)) return;
    this.#handOver(subscriber, this.#taken.get(subscriber) ?? 0);
    this.#taken.set(subscriber, this.#batch.length);
  }

  flush(): void {
    const started = performance.now();
    try {
      this.#deliver();
    } finally {
      this.#batch = [];
      this.#taken.clear();
      this.#waiting = false;
    }
    this.#counters.fanOutMs(performance.now() - started);
  }

  #deliver(): void {
    const noEcho = new Set<Subscriber>();
    for (const { sender } of this.#batch) if (sender !== null && !sender.echo) noEcho.add(sender);
    const joined = new Map<PresenceMode, { bytes: Buffer; count: number }>();
    for (const member of this.#members) {
      const taken = this.#taken.size > 0 ? this.#taken.get(member) : undefined;
      if (taken !== undefined || (noEcho.size > 0 && noEcho.has(member))) {
        this.#handOver(member, taken ?? 0);
        continue;
      }
      let shared = joined.get(member.presence);
      if (shared === undefined) {
        shared = this.#join(member.presence);
        joined.set(member.presence, shared);
      }
      if (shared.count === 0) continue;
      member.push(shared.bytes);
      this.#counters.deliveries += shared.count;
    }
  }

  #join(mode: PresenceMode): { bytes: Buffer; count: number } {
    const parts = this.#batch.filter((entry) => entry.mode === null || entry.mode === mode);
    const [first] = parts;
    if (parts.length === 1 && first !== undefined) return { bytes: first.bytes, count: 1 };
    return { bytes: Buffer.concat(parts.map((entry) => entry.bytes)), count: parts.length };
  }

  /** The slow path: entry by entry, for a member that stands apart in this turn. */
  #handOver(member: Subscriber, from: number): void {
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
