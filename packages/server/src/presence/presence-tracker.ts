import { LIMITS, type PresenceMap, type PresenceState, ProtocolError } from '@goforward/realtime-protocol';
import { SYSTEM_USER } from '../auth/identity.js';
import type { Channel } from '../channels/channel.js';
import type { MessageEncoder } from '../channels/message-encoder.js';
import type { Clock } from '../lib/clock.js';
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
  readonly clock: Clock;
}

/** Who is listed where, and the presence messages about it: one merged delta a channel and turn of the event loop. */
export class PresenceTracker {
  readonly #parts: PresenceParts;
  readonly #rooms = new WeakMap<Channel, Room>();

  constructor(parts: PresenceParts) {
    this.#parts = parts;
  }

  get enabled(): boolean {
    return this.#parts.enabled;
  }

  count(channel: Channel): number {
    return this.#rooms.get(channel)?.presence.count ?? 0;
  }

  snapshot(channel: Channel): PresenceMap {
    return this.#rooms.get(channel)?.presence.snapshot() ?? {};
  }

  /** A connection of a user who may write has come: the user is listed. */
  join(channel: Channel, userId: string): void {
    if (!this.#parts.enabled) return;
    const room = this.#room(channel);
    room.endLease(userId);
    room.presence.join(userId, this.#parts.clock());
    room.changed(userId);
  }

  /** A connection that lists nobody has come: its user, if listed, is so until the last connection leaves. */
  connected(channel: Channel, userId: string): void {
    this.#rooms.get(channel)?.endLease(userId);
  }

  /** Merges `patch` into the user's state and lists the user. Throws FEATURE_DISABLED or MESSAGE_TOO_LARGE. */
  update(channel: Channel, userId: string, patch: PresenceFields): void {
    this.#requireEnabled();
    const room = this.#room(channel);
    const fields = room.presence.merged(userId, patch);
    if (Buffer.byteLength(JSON.stringify(fields)) > LIMITS.presenceStateBytes) {
      throw new ProtocolError('MESSAGE_TOO_LARGE', {
        details: 'The presence state is too large',
        fields: { max_bytes: LIMITS.presenceStateBytes },
      });
    }
    room.presence.set(userId, fields, this.#parts.clock());
    if (channel.audience.connectionsOf(userId) === 0) room.lease(userId);
    else room.endLease(userId);
    room.changed(userId);
  }

  /** The user stops being listed; with connections or without. */
  leave(channel: Channel, userId: string): void {
    this.#requireEnabled();
    this.#unlist(channel, userId);
  }

  /** A connection has left the channel: the last one of its user is the one `leave`. */
  disconnected(channel: Channel, userId: string): void {
    if (channel.audience.connectionsOf(userId) === 0) this.#unlist(channel, userId);
  }

  /** The user has sent something. */
  seen(channel: Channel, userId: string): void {
    this.#rooms.get(channel)?.seen(userId);
  }

  /** Sends what has gathered, so that whoever joins or speaks next comes after it. */
  settle(channel: Channel): void {
    this.#rooms.get(channel)?.settle();
  }

  /** One encoded `join` for each listed user, at most `LIMITS.presenceJoins`: how a new member learns who is there. */
  joinMessages(channel: Channel): Buffer[] {
    return this.#rooms.get(channel)?.joinMessages() ?? [];
  }

  #unlist(channel: Channel, userId: string): void {
    const room = this.#rooms.get(channel);
    if (room === undefined) return;
    room.endLease(userId);
    room.presence.leave(userId);
    room.changed(userId);
  }

  #requireEnabled(): void {
    if (!this.#parts.enabled)
      throw new ProtocolError('FEATURE_DISABLED', { fields: { feature: 'presence' } });
  }

  #room(channel: Channel): Room {
    let room = this.#rooms.get(channel);
    if (room === undefined) {
      room = new Room(channel, this.#parts);
      this.#rooms.set(channel, room);
    }
    return room;
  }
}

/** One channel's listing with its leases and its place in the turn. */
class Room implements Flushable {
  readonly presence = new ChannelPresence();
  readonly #channel: Channel;
  readonly #parts: PresenceParts;
  readonly #leases = new Map<string, Lease>();
  /** The `join` of each user as new members were told it, until something about the user changes: they come in crowds. */
  readonly #joins = new Map<string, Buffer>();
  #waiting = false;

  constructor(channel: Channel, parts: PresenceParts) {
    this.#channel = channel;
    this.#parts = parts;
  }

  changed(userId: string): void {
    this.#joins.delete(userId);
    if (this.#waiting) return;
    this.#waiting = true;
    this.#parts.tick.add('presence', this);
  }

  seen(userId: string): void {
    this.presence.seen(userId, this.#parts.clock());
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
    if (this.#waiting) this.flush();
  }

  flush(): void {
    this.#waiting = false;
    const delta = this.presence.takeDelta();
    const { audience } = this.#channel;
    const { encoder } = this.#parts;
    if (audience.wants('each')) {
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
    if (!isEmpty && audience.wants('diff')) {
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

/** The time for which a user without a connection is listed. */
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
