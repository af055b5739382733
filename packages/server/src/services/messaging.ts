import { Broadcaster } from '../channels/broadcaster.js';
import { ChannelRegistry } from '../channels/channel-registry.js';
import { MessageEncoder } from '../channels/message-encoder.js';
import { Permissions } from '../channels/permissions.js';
import { PostgresChannelStore } from '../channels/postgres-channel-store.js';
import type { Settings } from '../config/settings-table.js';
import { textFrame } from '../connections/frame.js';
import type { Clock, WallClock } from '../lib/clock.js';
import type { Log } from '../lib/log.js';
import { Tick } from '../lib/tick.js';
import { TimerWheel } from '../lib/timer-wheel.js';
import type { Counters } from '../metrics/counters.js';
import type { Database } from '../postgres/connection/database.js';
import { PresenceTracker } from '../presence/presence-tracker.js';

export interface MessagingOptions {
  readonly settings: Settings;
  readonly database: Database;
  readonly counters: Counters;
  readonly clock: Clock;
  readonly wallClock: WallClock;
  readonly log: Log;
}

/** Channels and their permissions, broadcast and presence. */
export type Messaging = ReturnType<typeof createMessaging>;

export function createMessaging({ settings, database, counters, clock, wallClock, log }: MessagingOptions) {
  const tick = new Tick((error) => log.error({ err: error }, 'Sending the messages of a tick failed'));
  const wheel = new TimerWheel((error) => log.error({ err: error }, 'Timer callback failed'), clock);
  const encoder = new MessageEncoder(textFrame, wallClock);
  const permissions = new Permissions(settings.adminRoles);
  const store = new PostgresChannelStore(database);
  return {
    tick,
    wheel,
    encoder,
    permissions,
    channels: new ChannelRegistry(settings, store, { tick, counters, clock }),
    broadcaster: new Broadcaster({
      permissions,
      encoder,
      counters,
      clock,
      enabled: settings.enableBroadcast,
    }),
    presence: new PresenceTracker({
      enabled: settings.enablePresence,
      leaseMs: settings.connectionTimeout,
      encoder,
      tick,
      wheel,
      clock,
      wallClock,
    }),
  };
}
