import type { ChannelConfig } from './channel-config.js';
import type { ChannelStore, StoredChannel } from './channel-store.js';

/** Stores channels in memory, for tests. */
export class MemoryChannelStore implements ChannelStore {
  readonly #channels = new Map<string, ChannelConfig | null>();

  async load(): Promise<StoredChannel[]> {
    return [...this.#channels].map(([name, config]) => ({ name, config }));
  }

  async find(name: string): Promise<ChannelConfig | null | undefined> {
    return this.#channels.get(name);
  }

  async create(name: string, config: ChannelConfig): Promise<boolean> {
    if (this.#channels.get(name)) return false;
    this.#channels.set(name, config);
    return true;
  }

  async markDeleted(name: string): Promise<void> {
    this.#channels.set(name, null);
  }
}
