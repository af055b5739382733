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

/** Makes a member of the channel. */
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
  it('nothing can be joined, read, made or deleted', async () => {
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

  it('lasting channels and marks are read from the store', async () => {
    const store = new MemoryChannelStore();
    await store.create('kept', channelConfig({ permissions: { read: ['a'] } }, 50));
    await store.markDeleted('gone');
    const channels = await registry({}, store);
    expect(channels.get('kept')).toMatchObject({ kind: 'lasting', config: { permissions: { read: ['a'] } } });
    expect(await refusal(() => channels.open('gone'))).toEqual(notFound('gone'));
  });
});

describe('joining', () => {
  it('makes the channel with the defaults, once', async () => {
    const channels = await registry();
    const lobby = channels.open('lobby');
    expect(lobby).toMatchObject({ name: 'lobby', kind: 'automatic', config: channelConfig({}, 2) });
    expect(channels.open('lobby')).toBe(lobby);
    expect(channels.get('lobby')).toBe(lobby);
  });

  it('makes nothing where channels are not made automatically', async () => {
    const channels = await registry({ autoCreateChannels: false });
    expect(await refusal(() => channels.open('lobby'))).toEqual(notFound('lobby'));
    await channels.create('lobby', {});
    expect(channels.open('lobby').kind).toBe('lasting');
  });

  it('asking for the configuration makes nothing', async () => {
    const channels = await registry();
    expect(channels.configFor('lobby')).toEqual(channelConfig({}, 2));
    expect(channels.size).toBe(0);
    expect(await refusal(() => channels.get('lobby'))).toEqual(notFound('lobby'));
  });

  it('is refused by a full channel until somebody leaves', async () => {
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

describe('the limit of channels', () => {
  it('makes the longest unused empty automatic channel give way', async () => {
    const channels = await registry();
    for (const name of ['old', 'older', 'young']) channels.open(name).lastUsed = now;
    channels.get('older').lastUsed -= 1;
    channels.open('new');
    expect(names(channels)).toEqual(['new', 'old', 'young']);
    await channels.create('made', {});
    expect(channels.size).toBe(3);
    expect(names(channels)).toContain('made');
  });

  it('is told when all channels are lasting or have members, and removes none of them', async () => {
    const channels = await registry();
    await channels.create('lasting', {});
    for (const name of ['a', 'b']) enter(channels.open(name));
    const limit = { error: 'channel limit reached', code: 'CHANNEL_LIMIT_REACHED', limit: 3 };
    expect(await refusal(() => channels.open('c'))).toEqual(limit);
    expect(await refusal(() => channels.create('c', {}))).toEqual(limit);
    expect(names(channels)).toEqual(['a', 'b', 'lasting']);
    expect(channels.open('a').name).toBe('a');
  });
});

describe('an automatic channel', () => {
  it('goes when nobody has used it for its time to live, and comes back empty', async () => {
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

  it('that was touched begins its time to live anew', async () => {
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

  it('stays while it has members, and a lasting one always', async () => {
    const channels = await registry();
    enter(channels.open('lobby'));
    await channels.create('kept', {});
    now += 1_000_000;
    channels.expire();
    expect(names(channels)).toEqual(['kept', 'lobby']);
  });
});
