import { ProtocolError } from '@goforward/realtime-protocol';
import { asciiJson } from '../../lib/ascii-json.js';
import type { Sql } from '../../postgres/sql/sql.js';
import { isUnstorableText } from '../../postgres/sql/unstorable-text.js';
import type { ChangeFilter } from '../model/change-filter.js';
import type { StoredSubscription, SubscriptionStore } from './subscription-store.js';

interface Row {
  readonly id: string;
  readonly channel_name: string;
  readonly filter: ChangeFilter;
  readonly filter_key: string;
  readonly user_id: string;
  readonly db_role: string;
  readonly created_at: Date;
  readonly message_count: string;
  readonly last_activity: Date | null;
}

const COLUMNS =
  'id, channel_name, filter, filter_key, user_id, db_role, created_at, message_count::text, last_activity';

/** Keeps subscriptions in the table `subscriptions` of our schema. */
export class PostgresSubscriptionStore implements SubscriptionStore {
  readonly #database: Sql & { readonly schema: string };

  constructor(database: Sql & { readonly schema: string }) {
    this.#database = database;
  }

  get #table(): string {
    return `${this.#database.schema}.subscriptions`;
  }

  async load(): Promise<StoredSubscription[]> {
    const rows = await this.#database.query<Row>(
      `SELECT ${COLUMNS} FROM ${this.#table} ORDER BY created_at, id`,
    );
    return rows.map(toSubscription);
  }

  async add(subscription: StoredSubscription): Promise<StoredSubscription> {
    const { id, channelName, filter, filterKey, userId, role, createdAt } = subscription;
    const values = [id, channelName, asciiJson(filter), filterKey, userId, role, createdAt];
    try {
      // The update changes nothing; it makes RETURNING return the existing row.
      const [row] = await this.#database.query<Row>(
        `INSERT INTO ${this.#table} (id, channel_name, filter, filter_key, user_id, db_role, created_at)
         VALUES ($1, $2, $3, $4, $5, $6, $7)
         ON CONFLICT (channel_name, filter_key) DO UPDATE SET filter_key = excluded.filter_key
         RETURNING ${COLUMNS}`,
        values,
      );
      if (row === undefined) throw new Error('the subscription was not stored');
      return toSubscription(row);
    } catch (error) {
      if (!isUnstorableText(error)) throw error;
      throw new ProtocolError('DB_SUBSCRIPTION_FAILED', {
        details: 'Your user id or the filter has a character that the database cannot store',
        cause: error,
      });
    }
  }

  async remove(id: string): Promise<void> {
    await this.#database.query(`DELETE FROM ${this.#table} WHERE id = $1`, [id]);
  }

  async removeChannel(channelName: string): Promise<void> {
    await this.#database.query(`DELETE FROM ${this.#table} WHERE channel_name = $1`, [channelName]);
  }

  async count(counts: readonly { id: string; messageCount: number; lastActivity: Date }[]): Promise<void> {
    await this.#database.query(
      `UPDATE ${this.#table} AS stored SET message_count = given.message_count, last_activity = given.last_activity
       FROM unnest($1::text[], $2::bigint[], $3::timestamptz[]) AS given(id, message_count, last_activity)
       WHERE stored.id = given.id`,
      [
        counts.map(({ id }) => id),
        counts.map(({ messageCount }) => messageCount),
        counts.map(({ lastActivity }) => lastActivity),
      ],
    );
  }
}

function toSubscription(row: Row): StoredSubscription {
  return {
    id: row.id,
    channelName: row.channel_name,
    filter: row.filter,
    filterKey: row.filter_key,
    userId: row.user_id,
    role: row.db_role,
    createdAt: row.created_at,
    messageCount: Number(row.message_count),
    lastActivity: row.last_activity,
  };
}
