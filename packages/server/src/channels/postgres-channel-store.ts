import { asciiJson } from '../lib/ascii-json.js';
import { memberTexts } from '../lib/json-members.js';
import { EMPTY_OBJECT } from '../lib/json-text.js';
import type { Database } from '../postgres/connection/database.js';
import type { ChannelConfig } from './channel-config.js';
import type { ChannelStore, StoredChannel } from './channel-store.js';

/** The configuration as text, which keeps the numbers of its metadata; null: a deletion mark. */
interface StoredRow {
  readonly config: string | null;
}

const CONFIG = 'CASE WHEN deleted_at IS NULL THEN config::text END AS config';

/** Stores channels in the table `realtime.channels`: one row per channel or deletion mark (migration 1). */
export class PostgresChannelStore implements ChannelStore {
  readonly #database: Database;

  constructor(database: Database) {
    this.#database = database;
  }

  async load(): Promise<StoredChannel[]> {
    const rows = await this.#database.query<StoredRow & { name: string }>(
      `SELECT name, ${CONFIG} FROM ${this.#table} ORDER BY name`,
    );
    return rows.map(({ name, config }) => ({ name, config: configOf(config) }));
  }

  async find(name: string): Promise<ChannelConfig | null | undefined> {
    const [row] = await this.#database.query<StoredRow>(
      `SELECT ${CONFIG} FROM ${this.#table} WHERE name = $1`,
      [name],
    );
    return row === undefined ? undefined : configOf(row.config);
  }

  async create(name: string, config: ChannelConfig): Promise<boolean> {
    const rows = await this.#database.query(
      `INSERT INTO ${this.#table} AS c (name, config) VALUES ($1, $2)
       ON CONFLICT (name) DO UPDATE SET config = excluded.config, created_at = now(), deleted_at = NULL
       WHERE c.deleted_at IS NOT NULL
       RETURNING name`,
      [name, asciiJson(config)],
    );
    return rows.length === 1;
  }

  async markDeleted(name: string): Promise<void> {
    await this.#database.query(
      `INSERT INTO ${this.#table} AS c (name, config, deleted_at) VALUES ($1, '{}', now())
       ON CONFLICT (name) DO UPDATE SET config = '{}', deleted_at = now()`,
      [name],
    );
  }

  get #table(): string {
    return `${this.#database.schema}.channels`;
  }
}

function configOf(text: string | null): ChannelConfig | null {
  if (text === null) return null;
  const metadata = memberTexts(text).get('metadata')?.copy() ?? EMPTY_OBJECT;
  return { ...(JSON.parse(text) as ChannelConfig), metadata };
}
