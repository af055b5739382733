import { beforeEach, describe, expect, it } from 'vitest';
import { JsonText } from '../lib/json-text.js';
import { channelConfig } from './channel-config.js';
import type { ChannelStore } from './channel-store.js';

/** Tests what every channel store must do. `make` returns a new, empty store for each test. */
export function channelStoreContract(make: () => ChannelStore | Promise<ChannelStore>): void {
  const plain = channelConfig({}, 100);
  const rich = channelConfig(
    {
      max_subscribers: 7,
      require_auth: false,
      permissions: { read: ['a', '"b"'], write: [], max_message_size: 1024, rate_limit: 0.5 },
      metadata: new JsonText(
        '{"title":"Gr\\u00f6\\u00dfe\\u0000\\ud800","nested":{"list":[1152921506151679042,1E400,1.0,-0]},"__proto__":"\\\\ \\""}',
      ),
    },
    100,
  );
  let store: ChannelStore;

  /** Returns everything in the store, sorted by name. */
  async function stored(): Promise<unknown[]> {
    const channels = await store.load();
    return channels.map(({ name, config }) => [name, config] as const).sort(([a], [b]) => (a < b ? -1 : 1));
  }

  beforeEach(async () => {
    store = await make();
  });

  describe('a channel store', () => {
    it('is empty at first', async () => {
      expect(await stored()).toEqual([]);
    });

    it('returns every channel with the configuration that it was created with', async () => {
      expect(await store.create('plain', plain)).toBe(true);
      expect(await store.create('Rich:room.1', rich)).toBe(true);
      expect(await stored()).toEqual([
        ['Rich:room.1', rich],
        ['plain', plain],
      ]);
    });

    it('keeps the texts of metadata', async () => {
      const metadata = '{"title":"Größe 😀"}';
      await store.create('lobby', { ...plain, metadata: new JsonText(metadata) });
      expect(JSON.parse((await store.find('lobby'))?.metadata.text ?? '')).toEqual(JSON.parse(metadata));
    });

    it('rejects a second channel of one name and keeps the first', async () => {
      await store.create('lobby', plain);
      expect(await store.create('lobby', rich)).toBe(false);
      expect(await stored()).toEqual([['lobby', plain]]);
    });

    it('finds a channel by name: its configuration, a deletion mark, or nothing', async () => {
      await store.create('lobby', rich);
      await store.create('gone', plain);
      await store.markDeleted('gone');
      expect(await store.find('lobby')).toEqual(rich);
      expect(await store.find('gone')).toBeNull();
      expect(await store.find('Lobby')).toBeUndefined();
    });

    it('distinguishes names by case', async () => {
      await store.create('lobby', plain);
      expect(await store.create('Lobby', rich)).toBe(true);
    });

    it('creates one channel for several concurrent requests', async () => {
      const made = await Promise.all(Array.from({ length: 5 }, () => store.create('lobby', plain)));
      expect(made.filter(Boolean)).toHaveLength(1);
    });

    it('replaces a deleted channel by a deletion mark', async () => {
      await store.create('lobby', rich);
      await store.markDeleted('lobby');
      expect(await stored()).toEqual([['lobby', null]]);
    });

    it('marks a name that it did not hold, once or twice', async () => {
      await store.markDeleted('automatic');
      await store.markDeleted('automatic');
      expect(await stored()).toEqual([['automatic', null]]);
    });

    it('replaces a deletion mark by a new channel with its own configuration', async () => {
      await store.create('lobby', rich);
      await store.markDeleted('lobby');
      expect(await store.create('lobby', plain)).toBe(true);
      expect(await stored()).toEqual([['lobby', plain]]);
      expect(await store.create('lobby', rich)).toBe(false);
    });
  });
}
