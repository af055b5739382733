import { beforeEach, describe, expect, it } from 'vitest';
import { channelConfig } from './channel-config.js';
import type { ChannelStore } from './channel-store.js';

/** What every store of channels does. `make` answers a new, empty store before each test. */
export function channelStoreContract(make: () => ChannelStore | Promise<ChannelStore>): void {
  const plain = channelConfig({}, 100);
  const rich = channelConfig(
    {
      max_subscribers: 7,
      require_auth: false,
      permissions: { read: ['a', '"b"'], write: [], max_message_size: 1024, rate_limit: 0.5 },
      metadata: { title: 'Größe 😀', nested: { list: [1, null, true] }, __proto__key: '\\ "' },
    },
    100,
  );
  let store: ChannelStore;

  /** Everything that is kept, by name. */
  async function kept(): Promise<unknown[]> {
    const channels = await store.load();
    return channels.map(({ name, config }) => [name, config] as const).sort(([a], [b]) => (a < b ? -1 : 1));
  }

  beforeEach(async () => {
    store = await make();
  });

  describe('a store of channels', () => {
    it('is empty at first', async () => {
      expect(await kept()).toEqual([]);
    });

    it('gives back every channel with the configuration that it was made with', async () => {
      expect(await store.create('plain', plain)).toBe(true);
      expect(await store.create('Rich:room.1', rich)).toBe(true);
      expect(await kept()).toEqual([
        ['Rich:room.1', rich],
        ['plain', plain],
      ]);
    });

    it('refuses a second channel of one name and keeps the first', async () => {
      await store.create('lobby', plain);
      expect(await store.create('lobby', rich)).toBe(false);
      expect(await kept()).toEqual([['lobby', plain]]);
    });

    it('finds one by name: its configuration, the mark of deletion, or nothing', async () => {
      await store.create('lobby', rich);
      await store.create('gone', plain);
      await store.markDeleted('gone');
      expect(await store.find('lobby')).toEqual(rich);
      expect(await store.find('gone')).toBeNull();
      expect(await store.find('Lobby')).toBeUndefined();
    });

    it('tells names apart by case', async () => {
      await store.create('lobby', plain);
      expect(await store.create('Lobby', rich)).toBe(true);
    });

    it('makes one channel for several who create it at once', async () => {
      const made = await Promise.all(Array.from({ length: 5 }, () => store.create('lobby', plain)));
      expect(made.filter(Boolean)).toHaveLength(1);
    });

    it('keeps the mark of a deleted channel in its place', async () => {
      await store.create('lobby', rich);
      await store.markDeleted('lobby');
      expect(await kept()).toEqual([['lobby', null]]);
    });

    it('marks what it did not hold, and the same name again', async () => {
      await store.markDeleted('automatic');
      await store.markDeleted('automatic');
      expect(await kept()).toEqual([['automatic', null]]);
    });

    it('lets a new channel take the place of a mark, with its own configuration', async () => {
      await store.create('lobby', rich);
      await store.markDeleted('lobby');
      expect(await store.create('lobby', plain)).toBe(true);
      expect(await kept()).toEqual([['lobby', plain]]);
      expect(await store.create('lobby', rich)).toBe(false);
    });
  });
}
