import { ProtocolError } from '@goforward/realtime-protocol';
import { ChangeSubscription, ChangeUnsubscription } from '@goforward/realtime-protocol/schemas';
import { Compile } from 'typebox/compile';
import { FILTER_EVENTS } from '../changes/model/change-filter.js';
import type { PersonalChanges } from '../changes/stream/personal-changes.js';
import { misshapen, requireEvent } from './request-shape.js';
import type { Verb } from './verb.js';

const subscription = Compile(ChangeSubscription);
const unsubscription = Compile(ChangeUnsubscription);

/** `subscribe`/`database_changes`: row changes for this connection alone. Undefined where row changes are off. */
export function subscribe(changes: PersonalChanges | undefined): Verb {
  return async ({ session, channel, message }) => {
    requireEvent(message, 'database_changes');
    if (!subscription.Check(message.payload)) throw misshapen(subscription, message.payload);
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
    return { subscription_id: await enabled(changes).subscribe(session, channel, { filter, snapshot }) };
  };
}

/** `unsubscribe`/`database_changes`: ends one of them, or all. */
export function unsubscribe(changes: PersonalChanges | undefined): Verb {
  return ({ session, message }) => {
    requireEvent(message, 'database_changes');
    const { payload = {} } = message;
    if (!unsubscription.Check(payload)) throw misshapen(unsubscription, payload);
    enabled(changes).unsubscribe(session, payload.id);
    return {};
  };
}

function enabled(changes: PersonalChanges | undefined): PersonalChanges {
  if (changes !== undefined) return changes;
  throw new ProtocolError('FEATURE_DISABLED', { fields: { feature: 'db_streaming' } });
}
