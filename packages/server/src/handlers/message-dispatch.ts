import { ProtocolError } from '@goforward/realtime-protocol';
import type { Broadcaster } from '../channels/broadcaster.js';
import type { ReceivedMessage } from '../connections/decode.js';
import type { Dispatch } from '../connections/dispatch.js';
import type { PendingWork } from '../connections/pending-work.js';
import type { Session } from '../connections/session.js';
import { subscribe, unsubscribe } from './database-changes.js';
import type { Join } from './join.js';
import { ping } from './ping.js';
import { presence } from './presence.js';
import { publish } from './publish.js';
import { type RefreshParts, refresh } from './refresh.js';
import type { Verb } from './verb.js';

/** Passes each message to the handler of its type. Lists all message types that clients can send. */
export class MessageDispatch implements Dispatch {
  readonly #handlers: ReadonlyMap<string, Verb>;
  readonly #join: Join;
  readonly #pending: PendingWork;

  constructor(parts: RefreshParts & { readonly join: Join; readonly broadcaster: Broadcaster }) {
    this.#join = parts.join;
    this.#pending = parts.pending;
    const publishing = publish(parts.broadcaster, parts.presence);
    const personal = parts.rowChanges?.personal;
    this.#handlers = new Map([
      ['broadcast', publishing],
      ['message', publishing],
      ['presence', presence(parts.broadcaster, parts.presence)],
      ['subscribe', subscribe(personal, parts.pending)],
      ['unsubscribe', unsubscribe(personal)],
      ['ping', ping],
      ['auth', refresh(parts)],
    ]);
  }

  handle(session: Session, message: ReceivedMessage, bytes: number): ReturnType<Verb> {
    const handler = this.#handlers.get(message.type);
    if (handler === undefined) {
      throw new ProtocolError('UNKNOWN_MESSAGE_TYPE', {
        details: `type: must be one of ${[...this.#handlers.keys()].join(', ')}`,
        fields: { field: 'type' },
      });
    }
    const { channel } = session;
    if (channel === undefined) throw new Error('a message arrived before the connection joined its channel');
    return handler({ session, channel, message, bytes });
  }

  closed(session: Session): void {
    this.#pending.drop(session);
    this.#join.leave(session);
  }
}
