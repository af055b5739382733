import { ProtocolError } from '@goforward/realtime-protocol';
import { PresenceUpdate } from '@goforward/realtime-protocol/schemas';
import { Compile } from 'typebox/compile';
import type { Broadcaster } from '../channels/broadcaster.js';
import { memberTexts } from '../lib/json-members.js';
import { presencePatch } from '../presence/presence-patch.js';
import type { PresenceTracker } from '../presence/presence-tracker.js';
import type { Verb } from './verb.js';

const update = Compile(PresenceUpdate);

/** Handles `presence`: `update` merges a state and lists the user, `leave` removes the user from the list. */
export function presence(broadcaster: Broadcaster, tracker: PresenceTracker): Verb {
  return ({ session, channel, message, bytes }) => {
    broadcaster.admit(channel, session.identity, bytes);
    switch (message.event) {
      case 'update':
        if (!update.Check(message.payload)) {
          throw new ProtocolError('VALIDATION_FAILED', {
            details: 'payload: must be {"state": {…}}',
            fields: { field: 'payload' },
          });
        }
        tracker.update(
          channel,
          session.userId,
          presencePatch(memberTexts(message.payloadText.text).get('state')),
        );
        return {};
      case 'leave':
        tracker.leave(channel, session.userId);
        return {};
      default:
        throw new ProtocolError('VALIDATION_FAILED', {
          details: 'event: must be update or leave',
          fields: { field: 'event' },
        });
    }
  };
}
