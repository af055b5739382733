import { type ErrorBody, ProtocolError } from '@goforward/realtime-protocol';
import { beforeEach, describe, expect, it } from 'vitest';
import { fakeSubscriber } from '../../../../tests/support/fake-subscriber.js';
import { Tick } from '../lib/tick.js';
import type { Channel } from './channel.js';
import { channelConfig } from './channel-config.js';
import { ChannelRegistry, type ChannelRules } from './channel-registry.js';
import type { ChannelStore } from './channel-store.js';
import { MemoryChannelStore } from './memory-channel-store.js';
import type { Subscriber } from './subscriber.js';

const RULES: ChannelRules = {
  maxChannels: 3,
  maxUsersPerChannel: 2,
  channelTtl: 10_000,
  autoCreateChannels: true,
};

let now: number;

beforeEach(() => {
  now = 1_000_000;
});

async function registry(rules: Partial<ChannelRules> = {}, store: ChannelStore = new MemoryChannelStore()) {
  const tick = new Tick(() => undefined);
  const counters = { deliveries: 0, fanOutMs: () => undefined };
  const channels = new ChannelRegistry({ ...RULES, ...rules }, store, { tick, counters, clock: () => now });
  await channels.load();
  return channels;
}

/** Adds a member to the channel. */
function enter(channel: Channel): Subscriber {
  const subscriber = fakeSubscriber();
  channel.audience.join(subscriber);
  return subscriber;
}

async function refusal(act: () => unknown): Promise<ErrorBody | undefined> {
  try {
    await act();
    return undefined;
  } catch (error) {
    if (error instanceof ProtocolError) return error.body;
    throw error;
  }
}

const names = (channels: ChannelRegistry) =>
  channels
    .list()
    .map(({ name }) => name)
    .toSorted();
const notFound = (name: string) => ({ error: `channel ${name} not found`, code: 'CHANNEL_NOT_FOUND' });

describe('before the channels are loaded', () => {
  it('nothing can be joined, read, created or deleted', async () => {
    const parts = { tick: new Tick(() => undefined), counters: { deliveries: 0, fanOutMs: () => undefined } };
    const channels = new ChannelRegistry(RULES, new MemoryChannelStore(), { ...parts, clock: () => now });
    const unavailable = { error: 'database unavailable', code: 'DATABASE_UNAVAILABLE', retry_after: 5 };
    for (const act of [
      () => channels.get('lobby'),
      () => channels.find('lobby'),
      () => channels.list(),
      () => channels.open('lobby'),
      () => channels.configFor('lobby'),
      () => channels.settled('lobby'),
      () => channels.create('lobby', {}),
      () => channels.delete('lobby'),
    ]) {
      expect(await refusal(act)).toEqual(unavailable);
    }
    expect(channels.loaded).toBe(false);
    await channels.load();
    expect(channels.loaded).toBe(true);
    expect(channels.open('lobby').kind).toBe('automatic');
  });

  it('permanent channels and deletion marks are read from the store', async () => {
    const store = new MemoryChannelStore();
    await store.create('kept', channelConfig({ permissions: { read: ['a'] } }, 50));
    await store.markDeleted('gone');
    const channels = await registry({}, store);
    expect(channels.get('kept')).toMatchObject({
      kind: 'permanent',
      config: { permissions: { read: ['a'] } },
    });
    expect(await refusal(() => channels.open('gone'))).toEqual(notFound('gone'));
  });
});

describe('joining', () => {
  it('creates the channel with the defaults, once', async () => {
    const channels = await registry();
    const lobby = channels.open('lobby');
    expect(lobby).toMatchObject({ name: 'lobby', kind: 'automatic', config: channelConfig({}, 2) });
    expect(channels.open('lobby')).toBe(lobby);
    expect(channels.get('lobby')).toBe(lobby);
  });

  it('creates nothing when automatic channels are off', async () => {
    const channels = await registry({ autoCreateChannels: false });
    expect(await refusal(() => channels.open('lobby'))).toEqual(notFound('lobby'));
    await channels.create('lobby', {});
    expect(channels.open('lobby').kind).toBe('permanent');
  });

  it('creates nothing when only the configuration is requested', async () => {
    const channels = await registry();
    expect(channels.configFor('lobby')).toEqual(channelConfig({}, 2));
    expect(channels.size).toBe(0);
    expect(await refusal(() => channels.get('lobby'))).toEqual(notFound('lobby'));
  });

  it('is rejected by a full channel until a member leaves', async () => {
    const channels = await registry();
    const first = enter(channels.open('lobby'));
    enter(channels.open('lobby'));
    expect(await refusal(() => channels.open('lobby'))).toEqual({
      error: 'channel is full',
      code: 'CHANNEL_FULL',
      limit: 2,
    });
    channels.get('lobby').audience.leave(first);
    expect(channels.open('lobby').audience.size).toBe(1);
  });
});

describe('the channel limit', () => {
  it('evicts the empty automatic channel that was unused for longest', async () => {
    const channels = await registry();
    for (const name of ['old', 'older', 'young']) channels.open(name).lastUsed = now;
    channels.get('older').lastUsed -= 1;
    channels.open('new');
    expect(names(channels)).toEqual(['new', 'old', 'young']);
    await channels.create('created', {});
    expect(channels.size).toBe(3);
    expect(names(channels)).toContain('created');
  });

  it('is reported when all channels are permanent or have members, and none is removed', async () => {
    const channels = await registry();
    await channels.create('permanent', {});
    for (const name of ['a', 'b']) enter(channels.open(name));
    const limit = { error: 'channel limit reached', code: 'CHANNEL_LIMIT_REACHED', limit: 3 };
    expect(await refusal(() => channels.open('c'))).toEqual(limit);
    expect(await refusal(() => channels.create('c', {}))).toEqual(limit);
    expect(names(channels)).toEqual(['a', 'b', 'permanent']);
    expect(channels.open('a').name).toBe('a');
  });
});

describe('an automatic channel', () => {
  it('is removed after its time to live without use, and recreated empty', async () => {
    const channels = await registry();
    const first = channels.open('lobby');
    now += 9_999;
    channels.expire();
    expect(channels.size).toBe(1);
    now += 1;
    channels.expire();
    expect(channels.size).toBe(0);
    expect(channels.open('lobby')).not.toBe(first);
  });

  it('restarts its time to live when touched', async () => {
    const channels = await registry();
    const lobby = channels.open('lobby');
    now += 9_999;
    channels.touch(lobby);
    now += 9_999;
    channels.expire();
    expect(channels.find('lobby')).toBe(lobby);
    now += 1;
    channels.expire();
    expect(channels.find('lobby')).toBeUndefined();
  });

  it('is kept while it has members; a permanent one is always kept', async () => {
    const channels = await registry();
    enter(channels.open('lobby'));
    await channels.create('kept', {});
    now += 1_000_000;
    channels.expire();
    expect(names(channels)).toEqual(['kept', 'lobby']);
  });
});
