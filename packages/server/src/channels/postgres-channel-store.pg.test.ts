import { afterAll, beforeAll, expect, it } from 'vitest';
import { createTestDatabase, type TestDatabase } from '../../../../tests/support/postgres-database.js';
import { silentLog } from '../lib/log.js';
import { Database } from '../postgres/connection/database.js';
import { channelConfig } from './channel-config.js';
import { channelStoreContract } from './channel-store.contract.js';
import { PostgresChannelStore } from './postgres-channel-store.js';

let empty: TestDatabase;
let database: Database;

beforeAll(async () => {
  empty = await createTestDatabase();
  database = new Database({
    url: empty.url,
    log: silentLog,
    maxReconnectDelayMs: 100,
    onReady: async () => undefined,
  });
  await database.start();
});

afterAll(async () => {
  await database.stop();
  await empty.drop();
});

channelStoreContract(async () => {
  await database.query(`TRUNCATE ${database.schema}.channels`);
  return new PostgresChannelStore(database);
});

it('a store without its database throws DATABASE_UNAVAILABLE', async () => {
  const stopped = new Database({
    url: empty.url,
    log: silentLog,
    maxReconnectDelayMs: 100,
    onReady: async () => undefined,
  });
  const store = new PostgresChannelStore(stopped);
  for (const operation of [
    () => store.load(),
    () => store.create('lobby', channelConfig({}, 100)),
    () => store.markDeleted('lobby'),
  ]) {
    await expect(operation()).rejects.toMatchObject({ code: 'DATABASE_UNAVAILABLE' });
  }
});
