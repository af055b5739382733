import { ProtocolError } from '@goforward/realtime-protocol';
import { TokenRefresh } from '@goforward/realtime-protocol/schemas';
import { Compile } from 'typebox/compile';
import type { Identity } from '../auth/identity.js';
import type { RefusalLog } from '../auth/refusal-log.js';
import { TokenRefusal } from '../auth/token-refusal.js';
import type { Viewers } from '../changes/model/viewer.js';
import type { PersonalChanges } from '../changes/stream/personal-changes.js';
import type { Channel } from '../channels/channel.js';
import type { Permissions } from '../channels/permissions.js';
import { requireRate } from '../channels/rate-limit.js';
import type { Subscriber } from '../channels/subscriber.js';
import type { PendingWork } from '../connections/pending-work.js';
import type { Session } from '../connections/session.js';
import type { Clock } from '../lib/clock.js';
import { KeyedRateLimiter } from '../lib/token-bucket.js';
import type { PresenceTracker } from '../presence/presence-tracker.js';
import { invalidPayload, requireEvent } from './payload-checks.js';
import type { Verb } from './verb.js';

export interface RefreshParts {
  readonly verifier: { verify(token: string): Promise<Identity | null> };
  readonly refusalLog: RefusalLog;
  readonly permissions: Permissions;
  readonly presence: PresenceTracker;
  /** Undefined when row changes are off. */
  readonly rowChanges:
    | {
        readonly viewers: Viewers;
        readonly stream: { reauthorized(member: Subscriber, channel: Channel): void };
        readonly personal: PersonalChanges;
      }
    | undefined;
  readonly pending: PendingWork;
  readonly clock: Clock;
}

/** Rates of refreshes, of which a client needs one in the lifetime of a token. All connections of a user may need one at once. */
const PER_CONNECTION = { perSecond: 1, burst: 10 };
const PER_USER = { perSecond: 10, burst: 200 };

const refreshing = Compile(TokenRefresh);

/**
 * Handles `auth`/`refresh`: continues with another token of the same user. Closes the connection if the new
 * token may not read the channel, and ends personal subscriptions that it no longer allows, each with an
 * error.
 */
export function refresh(parts: RefreshParts): Verb {
  const { verifier, refusalLog, permissions, presence, rowChanges, pending, clock } = parts;
  const connectionRate = new KeyedRateLimiter(PER_CONNECTION);
  const userRate = new KeyedRateLimiter(PER_USER);

  function authenticate(session: Session, channel: Channel, identity: Identity): void {
    const mayWrite = (member: Subscriber) => permissions.allows(member.identity, 'write', channel.config);
    const could = mayWrite(session);
    session.replaceIdentity(identity);
    try {
      permissions.require(identity, 'read', channel.config);
    } catch (error) {
      if (error instanceof ProtocolError) session.closeWith(error);
      throw error;
    }
    if (!presence.enabled || could === mayWrite(session)) return;
    const { userId } = session;
    if (!could) {
      if (session.presence !== 'none') presence.join(channel, userId);
    } else if (![...channel.audience.members()].some((other) => other.userId === userId && mayWrite(other)))
      presence.leave(channel, userId);
  }

  /** Who the session is with this token. Throws TokenRefusal for a bad one, and for one of another user. */
  async function identityOf(session: Session, channel: Channel, token: string): Promise<Identity> {
    try {
      const verified = await verifier.verify(token);
      // An anonymous session stays who it is with a token of no user.
      if (verified === null && session.identity.isAnonymous === true) return session.identity;
      if (verified?.userId === session.userId) return verified;
      throw new TokenRefusal('claims', 'The new token of a connection is of another user', {
        details: 'The token is of another user',
      });
    } catch (error) {
      refusalLog.report(error, { address: session.address, channel: channel.name });
      throw error;
    }
  }

  return ({ session, channel, message, bytes }) => {
    requireEvent(message, 'refresh');
    const { payload } = message;
    if (!refreshing.Check(payload)) throw invalidPayload(refreshing, payload);
    const { token } = payload;
    requireRate(connectionRate, session.id, clock());
    requireRate(userRate, session.identity.limitedAs, clock());
    // Verification may have to fetch keys: one at a time, so that the last token sent wins.
    return pending.run(session, 'refresh', bytes, async (signal) => {
      const identity = await identityOf(session, channel, token);
      // The connection has left the channel meanwhile, and nobody waits for the answer.
      if (session.channel !== channel) return {};
      // Made before the identity changes, so that a failure changes nothing.
      const [before, after] = [session.identity, identity].map((one) => rowChanges?.viewers.of(one).key);
      authenticate(session, channel, identity);
      if (after !== before) {
        rowChanges?.stream.reauthorized(session, channel);
        await rowChanges?.personal.reauthorized(session, signal);
      }
      const { expiresAt } = identity;
      return expiresAt === null ? {} : { token_expires_at: new Date(expiresAt).toISOString() };
    });
  };
}
