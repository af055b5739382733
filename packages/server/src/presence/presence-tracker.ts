import { LIMITS, type PresenceMap, type PresenceState, ProtocolError } from '@goforward/realtime-protocol';
import { SYSTEM_USER } from '../auth/identity.js';
import type { Channel } from '../channels/channel.js';
import type { MessageEncoder } from '../channels/message-encoder.js';
import type { Clock, WallClock } from '../lib/clock.js';
import { stringify } from '../lib/json-text.js';
import type { Flushable, Tick } from '../lib/tick.js';
import type { Timed, TimerWheel } from '../lib/timer-wheel.js';
import { ChannelPresence, type PresenceFields } from './channel-presence.js';

export interface PresenceParts {
  readonly enabled: boolean;
  /** How long a user without a connection stays listed after an HTTP update, in ms. */
  readonly leaseMs: number;
  readonly encoder: MessageEncoder;
  readonly tick: Tick;
  readonly wheel: TimerWheel;
  /** Of leases. */
  readonly clock: Clock;
  /** Of `last_seen`. */
  readonly wallClock: WallClock;
}

/** Tracks presence and sends presence messages: one merged delta per channel and event loop tick. */
export class PresenceTracker {
  readonly #parts: PresenceParts;
  readonly #tracked = new WeakMap<Channel, TrackedChannel>();

  constructor(parts: PresenceParts) {
    this.#parts = parts;
  }

  get enabled(): boolean {
    return this.#parts.enabled;
  }

  count(channel: Channel): number {
    return this.#tracked.get(channel)?.presence.count ?? 0;
  }

  snapshot(channel: Channel): PresenceMap {
    return this.#tracked.get(channel)?.presence.snapshot() ?? {};
  }

  /** Lists a user with write permission whose connection has joined. */
  join(channel: Channel, userId: string): void {
    if (!this.#parts.enabled) return;
    const tracked = this.#track(channel);
    tracked.endLease(userId);
    tracked.presence.join(userId, this.#parts.wallClock.epochMs());
    tracked.changed(userId);
  }

  /** Ends the lease of a user who connects unlisted; a listed one stays until the last connection leaves. */
  connected(channel: Channel, userId: string): void {
    this.#tracked.get(channel)?.endLease(userId);
  }

  /** Merges `patch` into the user's state and lists it. Throws FEATURE_DISABLED or MESSAGE_TOO_LARGE. */
  update(channel: Channel, userId: string, patch: PresenceFields): void {
    this.#requireEnabled();
    const tracked = this.#track(channel);
    const fields = tracked.presence.merged(userId, patch);
    if (Buffer.byteLength(stringify(fields)) > LIMITS.presenceStateBytes) {
      throw new ProtocolError('MESSAGE_TOO_LARGE', {
        details: 'The presence state is too large',
        fields: { max_bytes: LIMITS.presenceStateBytes },
      });
    }
    tracked.presence.set(userId, fields, this.#parts.wallClock.epochMs());
    if (channel.audience.connectionsOf(userId) === 0) tracked.lease(userId);
    else tracked.endLease(userId);
    tracked.changed(userId);
  }

  /** Removes the user from the list, whether or not it has connections. Throws FEATURE_DISABLED. */
  leave(channel: Channel, userId: string): void {
    this.#requireEnabled();
    this.#unlist(channel, userId);
  }

  /** Notes that a connection has left. Removes the user from the list with the last connection. */
  disconnected(channel: Channel, userId: string): void {
    if (channel.audience.connectionsOf(userId) === 0) this.#unlist(channel, userId);
  }

  /** Updates `last_seen` of a user who has sent a message. */
  seen(channel: Channel, userId: string): void {
    this.#tracked.get(channel)?.seen(userId);
  }

  /** Sends pending presence messages now, so that they precede the next join or message. */
  flushPending(channel: Channel): void {
    this.#tracked.get(channel)?.settle();
  }

  /** Returns one encoded `join` per listed user, at most `LIMITS.presenceJoins`, for a new member. */
  joinMessages(channel: Channel): Buffer[] {
    return this.#tracked.get(channel)?.joinMessages() ?? [];
  }

  #unlist(channel: Channel, userId: string): void {
    const tracked = this.#tracked.get(channel);
    if (tracked === undefined) return;
    tracked.endLease(userId);
    tracked.presence.leave(userId);
    tracked.changed(userId);
  }

  #requireEnabled(): void {
    if (!this.#parts.enabled)
      throw new ProtocolError('FEATURE_DISABLED', { fields: { feature: 'presence' } });
  }

  #track(channel: Channel): TrackedChannel {
    let tracked = this.#tracked.get(channel);
    if (tracked === undefined) {
      tracked = new TrackedChannel(channel, this.#parts);
      this.#tracked.set(channel, tracked);
    }
    return tracked;
  }
}

/** Keeps presence and leases of one channel, and sends its presence messages once per tick. */
class TrackedChannel implements Flushable {
  readonly presence = new ChannelPresence();
  readonly #channel: Channel;
  readonly #parts: PresenceParts;
  readonly #leases = new Map<string, Lease>();
  /** Encoded `join` messages by user, kept until the user changes: many members may join at once. */
  readonly #joins = new Map<string, Buffer>();
  #isScheduled = false;

  constructor(channel: Channel, parts: PresenceParts) {
    this.#channel = channel;
    this.#parts = parts;
  }

  changed(userId: string): void {
    this.#joins.delete(userId);
    if (this.#isScheduled) return;
    this.#isScheduled = true;
    this.#parts.tick.add('presence', this);
  }

  seen(userId: string): void {
    this.presence.seen(userId, this.#parts.wallClock.epochMs());
    this.#joins.delete(userId);
  }

  joinMessages(): Buffer[] {
    const messages: Buffer[] = [];
    for (const userId of this.presence.first(LIMITS.presenceJoins)) {
      const bytes = this.#joins.get(userId) ?? this.#encodeJoin(userId);
      if (bytes !== undefined) messages.push(bytes);
    }
    return messages;
  }

  #encodeJoin(userId: string): Buffer | undefined {
    const state = this.presence.state(userId);
    if (state === undefined) return undefined;
    const bytes = encodeMember(this.#parts.encoder, 'join', userId, state);
    this.#joins.set(userId, bytes);
    return bytes;
  }

  settle(): void {
    if (this.#isScheduled) this.flush();
  }

  flush(): void {
    this.#isScheduled = false;
    const delta = this.presence.takeDelta();
    const { audience } = this.#channel;
    const { encoder } = this.#parts;
    if (audience.hasPresenceMode('each')) {
      for (const [event, users] of [
        ['join', delta.joins],
        ['update', delta.updates],
        ['leave', delta.leaves],
      ] as const) {
        for (const [userId, state] of Object.entries(users)) {
          audience.send(encodeMember(encoder, event, userId, state), { mode: 'each' });
        }
      }
    }
    const isEmpty = Object.values(delta).every((users) => Object.keys(users).length === 0);
    if (!isEmpty && audience.hasPresenceMode('diff')) {
      const bytes = encoder.encode(encoder.message('presence', 'diff', delta, SYSTEM_USER));
      audience.send(bytes, { mode: 'diff' });
    }
  }

  lease(userId: string): void {
    const { wheel, clock, leaseMs } = this.#parts;
    let lease = this.#leases.get(userId);
    if (lease === undefined) {
      lease = new Lease(() => this.#leaseEnded(userId));
      this.#leases.set(userId, lease);
    }
    wheel.schedule(lease, clock() + leaseMs);
  }

  endLease(userId: string): void {
    const lease = this.#leases.get(userId);
    if (lease === undefined) return;
    this.#parts.wheel.cancel(lease);
    this.#leases.delete(userId);
  }

  #leaseEnded(userId: string): void {
    this.#leases.delete(userId);
    this.presence.leave(userId);
    this.changed(userId);
  }
}

/** Ends the listing of a user without a connection after its lease. */
class Lease implements Timed {
  wheelIndex = -1;
  wheelAt = 0;
  readonly #end: () => void;

  constructor(end: () => void) {
    this.#end = end;
  }

  due(): number {
    this.#end();
    return Number.POSITIVE_INFINITY;
  }
}

function encodeMember(
  encoder: MessageEncoder,
  event: 'join' | 'update' | 'leave',
  userId: string,
  state: PresenceState,
): Buffer {
  return encoder.encode(encoder.message('presence', event, { user_id: userId, state }, userId));
}
