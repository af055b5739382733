import type { RowChange } from '@goforward/realtime-protocol';
import { expect } from 'vitest';
import { sql } from './postgres-database.js';
import type { Received, TestClient } from './test-client.js';
import type { TestServer } from './test-server.js';

/** The table and the policy of the specification. */
export const MESSAGES = `
  CREATE TABLE messages (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, content text, user_id uuid, created_at timestamptz DEFAULT now());
  ALTER TABLE messages ENABLE ROW LEVEL SECURITY;
  CREATE POLICY messages_select_policy ON messages FOR SELECT
    USING (user_id = current_setting('app.current_user_id')::uuid);`;

export const ADA = '11111111-1111-4111-8111-111111111111';
export const BOB = '22222222-2222-4222-8222-222222222222';

/** A filter as `POST .../subscribe` takes it. */
export interface Filter {
  readonly table: string;
  readonly schema?: string;
  readonly events?: readonly string[];
  readonly columns?: readonly string[];
  readonly condition?: string;
}

/**
 * Creates a channel if needed and subscribes it to a table, as a server admin. Returns the subscription's id.
 */
export async function subscribe(server: TestServer, channel: string, filter: Filter): Promise<string> {
  const token = await server.token('root', 'admin');
  const made = await server.call('POST', '/realtime/channels', { token, body: { name: channel } });
  expect([201, 409]).toContain(made.status);
  const path = `/realtime/channels/${channel}/subscribe`;
  const answer = await server.call('POST', path, { token, body: filter });
  expect([answer.status, answer.text]).toEqual([200, expect.stringContaining('subscribed')]);
  return answer.body.subscription_id;
}

/** Runs statements in the server's database. */
export function run<Row extends object>(server: TestServer, text: string): Promise<Row[]> {
  return sql<Row>(server.databaseUrl, text);
}

/** Returns the next row change of any table and event. */
export async function nextChange(client: TestClient): Promise<RowChange> {
  return changeOf(await client.next('database_change'));
}

/** Returns the next `count` row changes. */
export async function takeChanges(client: TestClient, count: number): Promise<RowChange[]> {
  return (await client.take(count, 'database_change')).map(changeOf);
}

function changeOf({ payload }: Received): RowChange {
  return payload.change;
}
