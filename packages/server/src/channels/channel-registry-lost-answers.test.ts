import { ProtocolError } from '@goforward/realtime-protocol';
import { beforeEach, expect, it } from 'vitest';
import { fakeSubscriber } from '../../../../tests/support/fake-subscriber.js';
import { Tick } from '../lib/tick.js';
import { channelConfig } from './channel-config.js';
import { ChannelRegistry } from './channel-registry.js';
import type { ChannelStore } from './channel-store.js';
import { MemoryChannelStore } from './memory-channel-store.js';

/** A store that is unavailable, or loses its connection during a change: before or after applying it. */
class LossyStore extends MemoryChannelStore {
  mode: 'up' | 'down' | 'loses requests' | 'loses answers' = 'up';

  override async find(name: string): ReturnType<ChannelStore['find']> {
    if (this.mode !== 'up') throw unavailable();
    return super.find(name);
  }

  override async create(...args: Parameters<ChannelStore['create']>): Promise<boolean> {
    return this.#change(() => super.create(...args));
  }

  override async markDeleted(name: string): Promise<void> {
    return this.#change(() => super.markDeleted(name));
  }

  async #change<T>(change: () => Promise<T>): Promise<T> {
    if (this.mode === 'down') throw unavailable();
    if (this.mode === 'loses requests') throw lost();
    const result = await change();
    if (this.mode === 'loses answers') throw lost();
    return result;
  }
}

const unavailable = () => new ProtocolError('DATABASE_UNAVAILABLE');
const lost = () => new ProtocolError('DATABASE_UNAVAILABLE', { cause: new Error('connection lost') });
const closed = { permissions: { read: ['chief'] } };

let store: LossyStore;
let channels: ChannelRegistry;

beforeEach(async () => {
  store = new LossyStore();
  const rules = { maxChannels: 5, maxUsersPerChannel: 2, channelTtl: 10_000, autoCreateChannels: true };
  const counters = { deliveries: 0, fanOutMs: () => undefined };
  channels = new ChannelRegistry(rules, store, { tick: new Tick(() => undefined), counters, clock: () => 0 });
  await channels.load();
});

/** Returns how a creation, deletion or join ends: `done`, or an error code. */
async function code(act: Promise<unknown>): Promise<string> {
  try {
    await act;
    return 'done';
  } catch (error) {
    if (error instanceof ProtocolError) return error.code;
    throw error;
  }
}

async function open(name: string) {
  await channels.settled(name);
  return channels.open(name);
}

it('after a creation whose answer was lost, nobody can join until its outcome is known', async () => {
  store.mode = 'loses answers';
  expect(await code(channels.create('secret', closed))).toBe('DATABASE_UNAVAILABLE');
  expect(await code(open('secret'))).toBe('DATABASE_UNAVAILABLE');
  expect(() => channels.open('secret')).toThrow(ProtocolError);
  store.mode = 'up';
  expect((await open('secret')).config).toEqual(channelConfig(closed, 2));
  expect(await code(channels.create('secret', {}))).toBe('CHANNEL_EXISTS');
});

it('a creation that never reached the store leaves the name unused', async () => {
  store.mode = 'down';
  expect(await code(channels.create('lobby', closed))).toBe('DATABASE_UNAVAILABLE');
  expect((await open('lobby')).kind).toBe('automatic');
});

it('a creation that was not stored leaves the name unused, once its outcome is known', async () => {
  store.mode = 'loses requests';
  expect(await code(channels.create('lobby', closed))).toBe('DATABASE_UNAVAILABLE');
  expect(await code(open('lobby'))).toBe('DATABASE_UNAVAILABLE');
  store.mode = 'up';
  expect((await open('lobby')).kind).toBe('automatic');
});

it('a deletion whose answer was lost closes the channel, once its outcome is known', async () => {
  const lobby = await channels.create('lobby', {});
  const reasons: (string | undefined)[] = [];
  lobby.audience.join(fakeSubscriber({ channelClosed: ({ body }) => reasons.push(body.reason) }));
  store.mode = 'loses answers';
  expect(await code(channels.delete('lobby'))).toBe('DATABASE_UNAVAILABLE');
  expect([channels.find('lobby'), reasons]).toEqual([lobby, []]);
  store.mode = 'up';
  await channels.load();
  expect([channels.find('lobby'), reasons]).toEqual([undefined, ['channel deleted']]);
  expect(await code(open('lobby'))).toBe('CHANNEL_NOT_FOUND');
});

it('all unknown outcomes are looked up when the store is back, without a request', async () => {
  store.mode = 'loses answers';
  await code(channels.create('one', closed));
  await code(channels.create('two', {}));
  store.mode = 'up';
  await channels.load();
  expect(channels.list().map(({ name, kind }) => [name, kind])).toEqual([
    ['one', 'permanent'],
    ['two', 'permanent'],
  ]);
});

it('concurrent joins of a name with an unknown outcome get the same channel', async () => {
  store.mode = 'loses answers';
  await code(channels.create('lobby', closed));
  store.mode = 'up';
  const opened = await Promise.all([open('lobby'), open('lobby'), open('lobby')]);
  expect(new Set(opened).size).toBe(1);
});
