import { afterAll, beforeAll, expect, it, vi } from 'vitest';
import { createTestDatabase, type TestDatabase } from '../../../../../tests/support/postgres-database.js';
import { PostgresProxy } from '../../../../../tests/support/postgres-proxy.js';
import { silentLog } from '../../lib/log.js';
import { Database } from './database.js';

let database: TestDatabase;

beforeAll(async () => {
  database = await createTestDatabase();
});

afterAll(async () => {
  await database.drop();
});

it('a database that stops answering delays a request by ten seconds at most, and the next one not at all', async () => {
  const proxy = new PostgresProxy(database.url);
  await proxy.open();
  const db = new Database({
    url: proxy.url,
    log: silentLog,
    maxReconnectDelayMs: 100,
    onReady: async () => undefined,
  });
  try {
    await db.start();
    proxy.fallSilent();
    const since = performance.now();
    await expect(db.query('SELECT 1')).rejects.toMatchObject({ code: 'DATABASE_UNAVAILABLE' });
    expect(performance.now() - since).toBeLessThan(11_000);
    expect(db.state).toEqual({ status: 'down', reason: `no answer from ${proxy.address}` });
    const again = performance.now();
    await expect(db.query('SELECT 1')).rejects.toMatchObject({ code: 'DATABASE_UNAVAILABLE' });
    expect(performance.now() - again).toBeLessThan(100);
    await proxy.close();
    await proxy.open();
    await vi.waitFor(() => expect(db.state.status).toBe('up'), { timeout: 10_000 });
  } finally {
    await db.stop();
    await proxy.close();
  }
});
