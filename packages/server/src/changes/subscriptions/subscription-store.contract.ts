import { beforeEach, describe, expect, it } from 'vitest';
import type { StoredSubscription, SubscriptionStore } from './subscription-store.js';

/** Tests what every subscription store must do. `make` returns a new, empty store before each test. */
export function subscriptionStoreContract(make: () => Promise<SubscriptionStore>): void {
  let store: SubscriptionStore;
  beforeEach(async () => {
    store = await make();
  });

  const subscription = (id: string, more: Partial<StoredSubscription> = {}): StoredSubscription => ({
    id,
    channelName: 'lobby',
    filter: { table: 'notes', schema: 'public', events: ['INSERT'], columns: ['ä"'], condition: "a = 'b'" },
    filterKey: id,
    userId: 'ada',
    role: 'realtime_subscriber',
    createdAt: new Date('2026-01-02T03:04:05.678Z'),
    messageCount: 0,
    lastActivity: null,
    ...more,
  });

  describe('a subscription store', () => {
    it('loads a subscription as it was added', async () => {
      expect(await store.load()).toEqual([]);
      const one = subscription('one');
      expect(await store.add(one)).toEqual(one);
      expect(await store.load()).toEqual([one]);
    });

    it('keeps one subscription for each filter in a channel, and returns it when the filter is added again', async () => {
      const one = subscription('one', { filterKey: 'same' });
      await store.add(one);
      expect(await store.add(subscription('two', { filterKey: 'same' }))).toEqual(one);
      const other = subscription('three', { filterKey: 'same', channelName: 'other' });
      expect(await store.add(other)).toEqual(other);
      expect((await store.load()).map(({ id }) => id).sort()).toEqual(['one', 'three']);
    });

    it('removes one subscription, or all of a channel', async () => {
      for (const id of ['one', 'two']) await store.add(subscription(id));
      await store.add(subscription('three', { channelName: 'other' }));
      await store.remove('one');
      await store.remove('unknown');
      expect((await store.load()).map(({ id }) => id).sort()).toEqual(['three', 'two']);
      await store.removeChannel('lobby');
      expect((await store.load()).map(({ id }) => id)).toEqual(['three']);
    });

    it('stores counts', async () => {
      await store.add(subscription('one'));
      await store.add(subscription('two'));
      const lastActivity = new Date('2026-02-03T04:05:06.789Z');
      await store.count([{ id: 'one', messageCount: 12, lastActivity }]);
      const [one, two] = (await store.load()).sort((a, b) => (a.id < b.id ? -1 : 1));
      expect([one, two]).toEqual([
        subscription('one', { messageCount: 12, lastActivity }),
        subscription('two'),
      ]);
    });
  });
}
