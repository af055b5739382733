import type { SubscriptionRegistry } from '../subscriptions/subscription-registry.js';
import type { PostgresAuthorizer } from '../visibility/evaluating/postgres-authorizer.js';
import type { RowChangeStream } from './row-change-stream.js';

export interface TableEventsParts {
  readonly authorizer: Pick<PostgresAuthorizer, 'forgetAll'>;
  readonly subscriptions: Pick<SubscriptionRegistry, 'refresh'>;
  readonly stream: Pick<RowChangeStream, 'announce' | 'markMissed'>;
  /** Whether a channel or a connection is subscribed to the table. */
  readonly isSubscribed: (oid: number) => boolean;
  readonly onError: (error: unknown) => void;
}

/** Carries out what enabling or disabling a table means for its subscriptions and their members. */
export class TableEvents {
  readonly #parts: TableEventsParts;

  constructor(parts: TableEventsParts) {
    this.#parts = parts;
  }

  /** Sends the members of subscribed channels a `gap`: changes before this moment, or from now on, do not reach them. */
  async changed(oid: number, event: 'enabled' | 'disabled'): Promise<void> {
    const { authorizer, subscriptions, stream, isSubscribed, onError } = this.#parts;
    authorizer.forgetAll();
    const hadSubscribers = isSubscribed(oid);
    try {
      await subscriptions.refresh();
      // Members that are not connected now learn of the gap when they resume.
      if (event === 'enabled' && hadSubscribers) await stream.markMissed(oid);
    } catch (error) {
      onError(error);
    }
    if (!hadSubscribers) return;
    const reason = event === 'enabled' ? 'the table was enabled again' : 'the table was disabled';
    stream.announce({ event: 'gap', payload: { scope: 'changes', reason }, tables: [oid] });
  }
}
