import { afterAll, beforeAll } from 'vitest';
import {
  createTestDatabase,
  sql,
  type TestDatabase,
} from '../../../../../tests/support/postgres-database.js';
import { silentLog } from '../../lib/log.js';
import { Database } from '../../postgres/connection/database.js';
import { PostgresSubscriptionStore } from './postgres-subscription-store.js';
import { subscriptionStoreContract } from './subscription-store.contract.js';

let test: TestDatabase;
let database: Database;

beforeAll(async () => {
  test = await createTestDatabase();
  database = new Database({
    url: test.url,
    log: silentLog,
    maxReconnectDelayMs: 100,
    onReady: async () => undefined,
  });
  await database.start();
});

afterAll(async () => {
  await database.stop();
  await test.drop();
});

subscriptionStoreContract(async () => {
  await sql(test.url, 'TRUNCATE realtime.subscriptions');
  return new PostgresSubscriptionStore(database);
});
