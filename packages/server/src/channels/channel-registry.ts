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
  /** How long an automatic channel stays without members and messages, in ms. */
  readonly channelTtl: number;
  readonly autoCreateChannels: boolean;
}

/** Seconds after which asking again makes sense while the channels are not loaded, or one is being made. */
const RETRY_AFTER_SECONDS = 5;

/** All channels of this node: those kept in the store, those made by their first member, and the deleted names. */
export class ChannelRegistry {
  readonly #rules: ChannelRules;
  readonly #store: ChannelStore;
  readonly #parts: { tick: Tick; counters: DeliveryCounters };
  readonly #clock: Clock;
  readonly #channels = new Map<string, Channel>();
  readonly #deleted = new Set<string>();
  /** Names whose creation or deletion is under way: whoever joins meanwhile waits, or would join a channel without its lists. */
  readonly #changing = new Map<string, Promise<unknown>>();
  /** Names of which it is not known whether the last change was kept. */
  readonly #uncertain = new Set<string>();
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

  /** All channels; throws DATABASE_UNAVAILABLE before they are loaded. */
  list(): Channel[] {
    this.#requireLoaded();
    return [...this.#channels.values()];
  }

  /**
   * Reads the kept channels; before that nobody can join, since we do not know what is closed to whom. Called
   * again whenever the store is back: then it finds out what came of the changes whose answer was lost.
   */
  async load(): Promise<void> {
    if (this.#loaded) {
      await Promise.all([...this.#uncertain].map((name) => this.#ascertain(name)));
      return;
    }
    for (const { name, config } of await this.#store.load()) {
      if (config === null) this.#deleted.add(name);
      else this.#add(name, 'lasting', channelConfig(config, this.#rules.maxUsersPerChannel));
    }
    this.#loaded = true;
  }

  /** The channel, or undefined. */
  find(name: string): Channel | undefined {
    this.#requireLoaded();
    return this.#channels.get(name);
  }

  /** The channel was used just now: its time to live starts anew. */
  touch(channel: Channel): void {
    channel.lastUsed = this.#clock();
  }

  /** The channel, or CHANNEL_NOT_FOUND. */
  get(name: string): Channel {
    const channel = this.find(name);
    if (channel === undefined) throw notFound(name);
    return channel;
  }

  /**
   * Waits until a creation or deletion of this name that is under way has ended, and finds out what came of one
   * whose answer was lost. Throws DATABASE_UNAVAILABLE while that cannot be known.
   */
  async settled(name: string): Promise<void> {
    this.#requireLoaded();
    await this.#changing.get(name)?.catch(() => undefined);
    if (this.#uncertain.has(name)) await this.#ascertain(name);
  }

  /**
   * The configuration that a join of this name would meet; of an automatic channel that is not there yet,
   * the defaults. Makes nothing, so that a refused join leaves no channel behind.
   */
  configFor(name: string): ChannelConfig {
    const channel = this.find(name);
    if (channel !== undefined) return channel.config;
    if (this.#changing.has(name) || this.#uncertain.has(name)) throw unavailable();
    if (!this.isMadeByJoining(name)) throw notFound(name);
    return channelConfig({}, this.#rules.maxUsersPerChannel);
  }

  /** Whether joining makes a channel of this name, where there is none. */
  isMadeByJoining(name: string): boolean {
    return this.#rules.autoCreateChannels && !this.#deleted.has(name);
  }

  /** The channel to join, made when it may be. Throws CHANNEL_NOT_FOUND, CHANNEL_LIMIT_REACHED or CHANNEL_FULL. */
  open(name: string): Channel {
    const config = this.configFor(name);
    const channel = this.#channels.get(name);
    if (channel === undefined) {
      this.#makeRoom();
      return this.#add(name, 'automatic', config);
    }
    if (channel.audience.size >= config.max_subscribers) {
      throw new ProtocolError('CHANNEL_FULL', { fields: { limit: config.max_subscribers } });
    }
    return channel;
  }

  /** Makes a lasting channel. Throws CHANNEL_EXISTS, CHANNEL_LIMIT_REACHED or DATABASE_UNAVAILABLE. */
  async create(name: string, given: Partial<ChannelConfig>): Promise<Channel> {
    this.#requireLoaded();
    if (this.#uncertain.has(name)) await this.#ascertain(name);
    if (this.#channels.has(name) || this.#changing.has(name)) throw exists(name);
    this.#makeRoom();
    const config = channelConfig(given, this.#rules.maxUsersPerChannel);
    if (!(await this.#change(name, this.#store.create(name, config)))) throw exists(name);
    this.#deleted.delete(name);
    return this.#add(name, 'lasting', config);
  }

  /** Keeps an automatic channel as if it had been made by HTTP. Throws CHANNEL_NOT_FOUND when it has gone, or DATABASE_UNAVAILABLE. */
  async makeLasting(name: string): Promise<void> {
    const channel = this.get(name);
    if (channel.kind === 'lasting') return;
    await this.settled(name);
    if (this.get(name) !== channel) throw notFound(name);
    if (this.#changing.has(name)) return this.makeLasting(name);
    await this.#change(name, this.#store.create(name, channel.config));
    // It may have expired meanwhile, or made room: it is kept, so it is there.
    if (!this.#channels.has(name)) this.#channels.set(name, channel);
    channel.kind = 'lasting';
  }

  /** Has `listener` hear of every channel that is deleted, by its name. */
  onDeleted(listener: (name: string) => void): void {
    this.#deletionListeners.push(listener);
  }

  /** Deletes a channel of either kind: its mark is kept first, then its members are told and cut off. */
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

  /** Removes the automatic channels that nobody used for the time to live. */
  expire(): void {
    const before = this.#clock() - this.#rules.channelTtl;
    for (const channel of this.#channels.values()) {
      if (isEvictable(channel) && channel.lastUsed <= before) this.#remove(channel);
    }
  }

  /** Has others wait for a change of the store. One that fails may have been kept all the same, its answer lost. */
  async #change<T>(name: string, change: Promise<T>): Promise<T> {
    this.#changing.set(name, change);
    try {
      const result = await change;
      this.#uncertain.delete(name);
      return result;
    } catch (error) {
      if (!isWithoutEffect(error)) this.#uncertain.add(name);
      throw error;
    } finally {
      this.#changing.delete(name);
    }
  }

  /** Makes memory what the store has. Several may ask at once, and a change may begin meanwhile: the first answer counts. */
  async #ascertain(name: string): Promise<void> {
    const config = await this.#store.find(name);
    if (this.#changing.has(name) || !this.#uncertain.delete(name)) return;
    if (config === null) this.#close(name);
    else if (config !== undefined && !this.#channels.has(name)) {
      this.#deleted.delete(name);
      this.#add(name, 'lasting', channelConfig(config, this.#rules.maxUsersPerChannel));
    }
  }

  /** The name is deleted: whoever is in the channel is told and cut off. */
  #close(name: string): void {
    this.#deleted.add(name);
    for (const listener of this.#deletionListeners) listener(name);
    const channel = this.#channels.get(name); // an automatic one may have gone meanwhile, or come anew
    if (channel === undefined) return;
    this.#remove(channel);
    const error = new ProtocolError('CHANNEL_CLOSED', { fields: { reason: 'channel deleted' } });
    for (const member of channel.audience.members()) member.channelClosed(error);
  }

  #makeRoom(): void {
    const { maxChannels } = this.#rules;
    const coming = [...this.#changing.keys()].filter((name) => !this.#channels.has(name)).length;
    if (this.#channels.size + coming < maxChannels) return;
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

/** The store was away before it was asked. With a cause, it went away while it was doing what it was asked. */
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
