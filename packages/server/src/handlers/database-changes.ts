import { ProtocolError } from '@goforward/realtime-protocol';
import { ChangeSubscription, ChangeUnsubscription } from '@goforward/realtime-protocol/schemas';
import { Compile } from 'typebox/compile';
import { FILTER_EVENTS } from '../changes/model/change-filter.js';
import type { PersonalChanges } from '../changes/stream/personal-changes.js';
import type { PendingWork } from '../connections/pending-work.js';
import { invalidPayload, requireEvent } from './payload-checks.js';
import type { Verb } from './verb.js';

const subscription = Compile(ChangeSubscription);
const unsubscription = Compile(ChangeUnsubscription);

/**
 * Handles `subscribe`/`database_changes`: subscribes this connection alone. `changes` is undefined when row
 * changes are off.
 */
export function subscribe(changes: PersonalChanges | undefined, pending: PendingWork): Verb {
  return ({ session, channel, message, bytes }) => {
    requireEvent(message, 'database_changes');
    if (!subscription.Check(message.payload)) throw invalidPayload(subscription, message.payload);
    const {
      table,
      schema = 'public',
      events = FILTER_EVENTS,
      columns,
      condition,
      snapshot = false,
    } = message.payload;
    const filter = {
      table,
      schema,
      events: [...new Set(events)],
      ...(columns === undefined ? {} : { columns }),
      ...(condition === undefined ? {} : { condition }),
    };
    const personal = requireEnabled(changes);
    return pending.run(session, 'subscribe', bytes, async (signal) => ({
      subscription_id: await personal.subscribe(session, channel, { filter, snapshot }, signal),
    }));
  };
}

/** Handles `unsubscribe`/`database_changes`: ends one subscription of this connection, or all. */
export function unsubscribe(changes: PersonalChanges | undefined): Verb {
  return ({ session, message }) => {
    requireEvent(message, 'database_changes');
    const { payload = {} } = message;
    if (!unsubscription.Check(payload)) throw invalidPayload(unsubscription, payload);
    requireEnabled(changes).unsubscribe(session, payload.id);
    return {};
  };
}

function requireEnabled(changes: PersonalChanges | undefined): PersonalChanges {
  if (changes !== undefined) return changes;
  throw new ProtocolError('FEATURE_DISABLED', { fields: { feature: 'db_streaming' } });
}
