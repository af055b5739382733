import type { RefusalLog } from '../auth/refusal-log.js';
import type { TokenVerifier } from '../auth/token-verifier.js';
import type { Settings } from '../config/settings-table.js';
import { ConnectionRegistry } from '../connections/connection-registry.js';
import { PendingWork } from '../connections/pending-work.js';
import { WebSocketEndpoint } from '../connections/websocket-endpoint.js';
import { Join } from '../handlers/join.js';
import { MessageDispatch } from '../handlers/message-dispatch.js';
import type { Clock, WallClock } from '../lib/clock.js';
import type { Log } from '../lib/log.js';
import { KeyedRateLimiter } from '../lib/token-bucket.js';
import type { Counters } from '../metrics/counters.js';
import type { Messaging } from './messaging.js';
import type { RowChanges } from './row-changes/row-changes.js';

export interface SocketOptions {
  readonly settings: Settings;
  readonly messaging: Messaging;
  /** Undefined if row changes are turned off. */
  readonly rowChanges: RowChanges | undefined;
  readonly verifier: TokenVerifier;
  readonly refusalLog: RefusalLog;
  readonly counters: Counters;
  readonly clock: Clock;
  readonly wallClock: WallClock;
  readonly log: Log;
}

/** WebSocket connections, and the handlers of their messages. */
export type Sockets = ReturnType<typeof createSockets>;

export function createSockets(options: SocketOptions) {
  const { settings, messaging, rowChanges, counters, clock, wallClock, log } = options;
  const { channels, permissions, presence, broadcaster, encoder, tick, wheel } = messaging;
  const messageRate = new KeyedRateLimiter(settings.messageRate);
  const connections = new ConnectionRegistry(settings);
  const pending = new PendingWork();
  const facts = {
    pingIntervalMs: settings.pingInterval,
    maxMessageBytes: settings.maxMessageSize,
    messageRate: settings.messageRate.perSecond,
  };
  const join = new Join({ channels, permissions, presence, rowChanges: rowChanges?.stream, facts });
  const environment = {
    clock,
    wallClock,
    tick,
    wheel,
    encoder,
    dispatch: new MessageDispatch({ ...options, join, pending, broadcaster, permissions, presence }),
    messageRate,
    counters,
    log,
    pingIntervalMs: settings.pingInterval,
    timeoutMs: settings.connectionTimeout,
    maxOutboxBytes: settings.maxOutbox,
    tokenToleranceMs: settings.jwtClockTolerance,
  };
  const endpoint = new WebSocketEndpoint(settings.maxMessageSize, environment, connections);
  return { join, connections, pending, endpoint, messageRate };
}
