import type { Broadcaster } from '../channels/broadcaster.js';
import type { PresenceTracker } from '../presence/presence-tracker.js';
import type { Verb } from './verb.js';

/** Handles `broadcast` and `message`: sends either to all members as a `message`. */
export function publish(broadcaster: Broadcaster, presence: PresenceTracker): Verb {
  return ({ session, channel, message, bytes }) => {
    const { event, payloadText: payload } = message;
    const publication = { type: 'message', event, payload, bytes } as const;
    presence.flushPending(channel);
    broadcaster.publish(channel, session.identity, publication, session);
    presence.seen(channel, session.userId);
    return {};
  };
}
