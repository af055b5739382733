import { ProtocolError } from '@goforward/realtime-protocol';
import type { Clock } from '../lib/clock.js';
import type { Tick } from '../lib/tick.js';
import type { DeliveryCounters } from './audience.js';
import { Channel, type ChannelKind } from './channel.js';
import { type ChannelConfig, channelConfig } from './channel-config.js';
import type { ChannelStore } from './channel-store.js';

export interface ChannelRules {
  readonly maxChannels: number;
  readonly maxUsersPerChannel: number;
  /** How long an automatic channel is kept without members and messages, in ms. */
  readonly channelTtl: number;
  readonly autoCreateChannels: boolean;
}

/** The `retry_after` while the channels are not loaded, or the channel is being created or deleted. */
const RETRY_AFTER_SECONDS = 5;

/** Holds all channels of this node: stored ones, automatic ones, and the names of deleted ones. */
export class ChannelRegistry {
  readonly #rules: ChannelRules;
  readonly #store: ChannelStore;
  readonly #parts: { tick: Tick; counters: DeliveryCounters };
  readonly #clock: Clock;
  readonly #channels = new Map<string, Channel>();
  readonly #deleted = new Set<string>();
  /** Creations and deletions in progress. Joins wait for them, so as not to bypass permission lists. */
  readonly #changing = new Map<string, Promise<unknown>>();
  /** Names whose last change may or may not be in the store: the answer was lost. */
  readonly #unknownOutcomes = new Set<string>();
  readonly #deletionListeners: ((name: string) => void)[] = [];
  #loaded = false;

  constructor(
    rules: ChannelRules,
    store: ChannelStore,
    parts: { tick: Tick; counters: DeliveryCounters; clock: Clock },
  ) {
    this.#rules = rules;
    this.#store = store;
    this.#parts = parts;
    this.#clock = parts.clock;
  }

  get size(): number {
    return this.#channels.size;
  }

  get loaded(): boolean {
    return this.#loaded;
  }

  /** Returns all channels. Throws DATABASE_UNAVAILABLE before they are loaded. */
  list(): Channel[] {
    this.#requireLoaded();
    return [...this.#channels.values()];
  }

  /**
   * Loads the stored channels. Before that nobody can join, since the permission lists are unknown. Called
   * again after each reconnect of the store: it then looks up the outcome of changes whose answer was lost.
   */
  async load(): Promise<void> {
    if (this.#loaded) {
      await Promise.all([...this.#unknownOutcomes].map((name) => this.#resolveOutcome(name)));
      return;
    }
    for (const { name, config } of await this.#store.load()) {
      if (config === null) this.#deleted.add(name);
      else this.#add(name, 'permanent', channelConfig(config, this.#rules.maxUsersPerChannel));
    }
    this.#loaded = true;
  }

  /** Returns the channel, or undefined. */
  find(name: string): Channel | undefined {
    this.#requireLoaded();
    return this.#channels.get(name);
  }

  /** Restarts the time to live of a channel. */
  touch(channel: Channel): void {
    channel.lastUsed = this.#clock();
  }

  /** Returns the channel. Throws CHANNEL_NOT_FOUND. */
  get(name: string): Channel {
    const channel = this.find(name);
    if (channel === undefined) throw notFound(name);
    return channel;
  }

  /**
   * Waits for a creation or deletion of this name in progress, and looks up the outcome of one whose answer
   * was lost. Throws DATABASE_UNAVAILABLE while the outcome cannot be looked up.
   */
  async settled(name: string): Promise<void> {
    this.#requireLoaded();
    await this.#changing.get(name)?.catch(() => undefined);
    if (this.#unknownOutcomes.has(name)) await this.#resolveOutcome(name);
  }

  /**
   * Returns the configuration that a join of this name is checked against: the defaults for an automatic
   * channel that does not exist yet. Creates nothing, so that a refused join leaves no channel behind.
   */
  configFor(name: string): ChannelConfig {
    const channel = this.find(name);
    if (channel !== undefined) return channel.config;
    if (this.#changing.has(name) || this.#unknownOutcomes.has(name)) throw unavailable();
    if (!this.isMadeByJoining(name)) throw notFound(name);
    return channelConfig({}, this.#rules.maxUsersPerChannel);
  }

  /** Whether joining creates a channel of this name if there is none. */
  isMadeByJoining(name: string): boolean {
    return this.#rules.autoCreateChannels && !this.#deleted.has(name);
  }

  /**
   * Returns the channel to join. Creates an automatic one where that is allowed. Throws CHANNEL_NOT_FOUND,
   * CHANNEL_LIMIT_REACHED or CHANNEL_FULL.
   */
  open(name: string): Channel {
    const config = this.configFor(name);
    const channel = this.#channels.get(name);
    if (channel === undefined) {
      this.#requireRoom();
      return this.#add(name, 'automatic', config);
    }
    if (channel.audience.size >= config.max_subscribers) {
      throw new ProtocolError('CHANNEL_FULL', { fields: { limit: config.max_subscribers } });
    }
    return channel;
  }

  /** Creates a permanent channel. Throws CHANNEL_EXISTS, CHANNEL_LIMIT_REACHED or DATABASE_UNAVAILABLE. */
  async create(name: string, given: Partial<ChannelConfig>): Promise<Channel> {
    this.#requireLoaded();
    if (this.#unknownOutcomes.has(name)) await this.#resolveOutcome(name);
    if (this.#channels.has(name) || this.#changing.has(name)) throw exists(name);
    this.#requireRoom();
    const config = channelConfig(given, this.#rules.maxUsersPerChannel);
    if (!(await this.#change(name, this.#store.create(name, config)))) throw exists(name);
    this.#deleted.delete(name);
    return this.#add(name, 'permanent', config);
  }

  /** Makes an automatic channel permanent. Throws CHANNEL_NOT_FOUND or DATABASE_UNAVAILABLE. */
  async makePermanent(name: string): Promise<void> {
    const channel = this.get(name);
    if (channel.kind === 'permanent') return;
    await this.settled(name);
    if (this.get(name) !== channel) throw notFound(name);
    if (this.#changing.has(name)) return this.makePermanent(name);
    await this.#change(name, this.#store.create(name, channel.config));
    // It may have expired or been evicted meanwhile; it is stored now, so it must exist.
    if (!this.#channels.has(name)) this.#channels.set(name, channel);
    channel.kind = 'permanent';
  }

  /** Calls `listener` with the name of every deleted channel. */
  onDeleted(listener: (name: string) => void): void {
    this.#deletionListeners.push(listener);
  }

  /** Deletes a channel: stores the deletion mark, then notifies and disconnects the members. */
  async delete(name: string): Promise<void> {
    this.get(name);
    const earlier = this.#changing.get(name);
    if (earlier !== undefined) {
      await earlier;
      throw notFound(name);
    }
    await this.#change(name, this.#store.markDeleted(name));
    this.#close(name);
  }

  /** Removes the automatic channels that were unused for their time to live. */
  expire(): void {
    const before = this.#clock() - this.#rules.channelTtl;
    for (const channel of this.#channels.values()) {
      if (isEvictable(channel) && channel.lastUsed <= before) this.#remove(channel);
    }
  }

  /**
   * Waits for a change of the store, and makes joins wait. A failed one may be stored: its answer was lost.
   */
  async #change<T>(name: string, change: Promise<T>): Promise<T> {
    this.#changing.set(name, change);
    try {
      const result = await change;
      this.#unknownOutcomes.delete(name);
      return result;
    } catch (error) {
      if (!isWithoutEffect(error)) this.#unknownOutcomes.add(name);
      throw error;
    } finally {
      this.#changing.delete(name);
    }
  }

  /**
   * Reads the outcome of a change from the store into memory. Several calls may run at once and a change may
   * begin meanwhile, so only the first answer counts.
   */
  async #resolveOutcome(name: string): Promise<void> {
    const config = await this.#store.find(name);
    if (this.#changing.has(name) || !this.#unknownOutcomes.delete(name)) return;
    if (config === null) this.#close(name);
    else if (config !== undefined && !this.#channels.has(name)) {
      this.#deleted.delete(name);
      this.#add(name, 'permanent', channelConfig(config, this.#rules.maxUsersPerChannel));
    }
  }

  /** Marks the name as deleted, and notifies and disconnects the members of its channel. */
  #close(name: string): void {
    this.#deleted.add(name);
    for (const listener of this.#deletionListeners) listener(name);
    const channel = this.#channels.get(name); // an automatic one may have been removed or recreated meanwhile
    if (channel === undefined) return;
    this.#remove(channel);
    const error = new ProtocolError('CHANNEL_CLOSED', { fields: { reason: 'channel deleted' } });
    for (const member of channel.audience.members()) member.channelClosed(error);
  }

  /** At the limit, evicts the longest unused empty automatic channel, or throws CHANNEL_LIMIT_REACHED. */
  #requireRoom(): void {
    const { maxChannels } = this.#rules;
    const beingCreated = [...this.#changing.keys()].filter((name) => !this.#channels.has(name)).length;
    if (this.#channels.size + beingCreated < maxChannels) return;
    let oldest: Channel | undefined;
    for (const channel of this.#channels.values()) {
      if (isEvictable(channel) && (oldest === undefined || channel.lastUsed < oldest.lastUsed))
        oldest = channel;
    }
    if (oldest === undefined)
      throw new ProtocolError('CHANNEL_LIMIT_REACHED', { fields: { limit: maxChannels } });
    this.#remove(oldest);
  }

  #add(name: string, kind: ChannelKind, config: ChannelConfig): Channel {
    const channel = new Channel(name, kind, config, { ...this.#parts, now: this.#clock() });
    this.#channels.set(name, channel);
    return channel;
  }

  #remove(channel: Channel): void {
    this.#channels.delete(channel.name);
  }

  #requireLoaded(): void {
    if (!this.#loaded) throw unavailable();
  }
}

function unavailable(): ProtocolError {
  return new ProtocolError('DATABASE_UNAVAILABLE', { fields: { retry_after: RETRY_AFTER_SECONDS } });
}

/** Without a cause the request was never sent; with one, the connection was lost during the request. */
function isWithoutEffect(error: unknown): boolean {
  return error instanceof ProtocolError && error.code === 'DATABASE_UNAVAILABLE' && error.cause === undefined;
}

function isEvictable(channel: Channel): boolean {
  return channel.kind === 'automatic' && channel.audience.size === 0;
}

function notFound(name: string): ProtocolError {
  return new ProtocolError('CHANNEL_NOT_FOUND', { error: `channel ${name} not found` });
}

function exists(name: string): ProtocolError {
  return new ProtocolError('CHANNEL_EXISTS', { error: `channel ${name} already exists` });
}
