import { type ErrorBody, ProtocolError } from '@goforward/realtime-protocol';
import { beforeEach, describe, expect, it } from 'vitest';
import { fakeSubscriber } from '../../../../tests/support/fake-subscriber.js';
import { JsonText } from '../lib/json-text.js';
import { Tick } from '../lib/tick.js';
import type { Channel } from './channel.js';
import { channelConfig } from './channel-config.js';
import { ChannelRegistry } from './channel-registry.js';
import type { ChannelStore } from './channel-store.js';
import { MemoryChannelStore } from './memory-channel-store.js';
import type { Subscriber } from './subscriber.js';

let store: SlowStore;
let channels: ChannelRegistry;

beforeEach(async () => {
  store = new SlowStore();
  channels = await registry();
});

async function registry(maxChannels = 3): Promise<ChannelRegistry> {
  const rules = { maxChannels, maxUsersPerChannel: 2, channelTtl: 10_000, autoCreateChannels: true };
  const counters = { deliveries: 0, fanOutMs: () => undefined };
  const made = new ChannelRegistry(rules, store, {
    tick: new Tick(() => undefined),
    counters,
    clock: () => 0,
  });
  await made.load();
  return made;
}

/** A store that applies changes at once or, while `isPaused`, when the test calls `proceed`. */
class SlowStore extends MemoryChannelStore {
  isPaused = false;
  readonly waiting: { proceed: () => void; fail: (error: Error) => void }[] = [];

  override async create(...args: Parameters<ChannelStore['create']>): Promise<boolean> {
    await this.#unpaused();
    return super.create(...args);
  }

  override async markDeleted(name: string): Promise<void> {
    await this.#unpaused();
    return super.markDeleted(name);
  }

  #unpaused(): Promise<void> {
    if (!this.isPaused) return Promise.resolve();
    return new Promise((proceed, fail) => this.waiting.push({ proceed, fail }));
  }
}

/** Adds a member to the channel; `reasons` are the reasons for which it was disconnected. */
function enter(channel: Channel): { subscriber: Subscriber; reasons: (string | undefined)[] } {
  const reasons: (string | undefined)[] = [];
  const subscriber: Subscriber = fakeSubscriber({
    channelClosed: ({ body }) => {
      reasons.push(body.reason);
      channel.audience.leave(subscriber);
    },
  });
  channel.audience.join(subscriber);
  return { subscriber, reasons };
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

const notFound = (name: string) => ({ error: `channel ${name} not found`, code: 'CHANNEL_NOT_FOUND' });
const exists = (name: string) => ({ error: `channel ${name} already exists`, code: 'CHANNEL_EXISTS' });

describe('creating a channel', () => {
  it('stores it with the given fields and the defaults for the rest', async () => {
    const metadata = new JsonText('{"title":"Lobby"}');
    const lobby = await channels.create('lobby', { metadata });
    const config = channelConfig({ metadata }, 2);
    expect(lobby).toMatchObject({ name: 'lobby', kind: 'permanent', config });
    expect(channels.get('lobby')).toBe(lobby);
    expect(await store.load()).toEqual([{ name: 'lobby', config }]);
  });

  it('is rejected when a permanent or automatic channel of the name exists', async () => {
    await channels.create('permanent', {});
    channels.open('automatic');
    for (const name of ['permanent', 'automatic']) {
      expect(await refusal(() => channels.create(name, {}))).toEqual(exists(name));
    }
  });

  it('is rejected for the second of two concurrent requests, and when the store has the name already', async () => {
    store.isPaused = true;
    const first = channels.create('lobby', {});
    expect(await refusal(() => channels.create('lobby', {}))).toEqual(exists('lobby'));
    store.waiting[0]?.proceed();
    await first;
    store.isPaused = false;
    await store.create('of another node', channelConfig({}, 2));
    expect(await refusal(() => channels.create('of another node', {}))).toEqual(exists('of another node'));
  });

  it('leaves nothing behind when it fails, and can be retried', async () => {
    store.isPaused = true;
    const creating = channels.create('lobby', {});
    store.waiting[0]?.fail(new ProtocolError('DATABASE_UNAVAILABLE'));
    expect((await refusal(() => creating))?.code).toBe('DATABASE_UNAVAILABLE');
    expect(channels.size).toBe(0);
    store.isPaused = false;
    expect((await channels.create('lobby', {})).kind).toBe('permanent');
  });

  it('counts creations in progress against the limit', async () => {
    channels = await registry(2);
    store.isPaused = true;
    const creating = [channels.create('a', {}), channels.create('b', {})];
    expect((await refusal(() => channels.open('c')))?.code).toBe('CHANNEL_LIMIT_REACHED');
    for (const { proceed } of store.waiting) proceed();
    await Promise.all(creating);
    expect(channels.list().map(({ name }) => name)).toEqual(['a', 'b']);
  });
});

describe('joining during a creation', () => {
  it('waits for the creation, and is then checked against its lists', async () => {
    store.isPaused = true;
    const creating = channels.create('vault', { permissions: { read: ['owner'] } });
    const joining = channels.settled('vault').then(() => channels.configFor('vault').permissions.read);
    expect((await refusal(() => channels.open('vault')))?.code).toBe('DATABASE_UNAVAILABLE');
    store.waiting[0]?.proceed();
    expect(await joining).toEqual(['owner']);
    expect((await creating).kind).toBe('permanent');
  });

  it('proceeds when the creation has failed', async () => {
    store.isPaused = true;
    const creating = channels.create('lobby', {});
    const joining = channels.settled('lobby').then(() => channels.open('lobby').kind);
    store.waiting[0]?.fail(new Error('no'));
    await expect(creating).rejects.toThrow('no');
    expect(await joining).toBe('automatic');
  });
});

describe('deleting a channel', () => {
  it('disconnects its members with a reason, after the mark is stored', async () => {
    const { reasons } = enter(await channels.create('lobby', {}));
    store.isPaused = true;
    const deleting = channels.delete('lobby');
    expect([reasons, channels.get('lobby').name]).toEqual([[], 'lobby']);
    store.waiting[0]?.proceed();
    await deleting;
    expect(reasons).toEqual(['channel deleted']);
    expect(await store.load()).toEqual([{ name: 'lobby', config: null }]);
  });

  it.each(['permanent', 'automatic'])('of the kind %s prevents later joins', async (kind) => {
    if (kind === 'permanent') await channels.create('lobby', {});
    else channels.open('lobby');
    await channels.delete('lobby');
    for (const act of [
      () => channels.get('lobby'),
      () => channels.open('lobby'),
      () => channels.configFor('lobby'),
    ]) {
      expect(await refusal(act)).toEqual(notFound('lobby'));
    }
    const restarted = await registry();
    expect(await refusal(() => restarted.open('lobby'))).toEqual(notFound('lobby'));
  });

  it('can be undone by creating it again', async () => {
    await channels.create('lobby', {});
    await channels.delete('lobby');
    await channels.create('lobby', {});
    expect(channels.open('lobby').kind).toBe('permanent');
    expect((await registry()).open('lobby').kind).toBe('permanent');
  });

  it('is rejected for a missing channel, and leaves no mark', async () => {
    expect(await refusal(() => channels.delete('lobby'))).toEqual(notFound('lobby'));
    expect(await store.load()).toEqual([]);
  });

  it('leaves the channel unchanged when it fails', async () => {
    const { reasons } = enter(await channels.create('lobby', {}));
    store.isPaused = true;
    const deleting = channels.delete('lobby');
    store.waiting[0]?.fail(new ProtocolError('DATABASE_UNAVAILABLE'));
    expect((await refusal(() => deleting))?.code).toBe('DATABASE_UNAVAILABLE');
    expect([reasons, channels.open('lobby').kind]).toEqual([[], 'permanent']);
  });

  it('requested twice deletes once, and spares a channel created in between', async () => {
    await channels.create('lobby', {});
    store.isPaused = true;
    const first = channels.delete('lobby');
    const second = refusal(() => channels.delete('lobby'));
    store.isPaused = false;
    store.waiting[0]?.proceed();
    await first;
    const recreated = await channels.create('lobby', {});
    store.waiting[1]?.proceed();
    expect(await second).toEqual(notFound('lobby'));
    expect(channels.get('lobby')).toBe(recreated);
    expect((await registry()).open('lobby').kind).toBe('permanent');
  });

  it('also closes a channel that was recreated under the name while the mark was being stored', async () => {
    channels.open('lobby');
    store.isPaused = true;
    const deleting = channels.delete('lobby');
    for (const name of ['a', 'b', 'c']) enter(channels.open(name));
    expect((await refusal(() => channels.open('lobby')))?.code).toBe('DATABASE_UNAVAILABLE');
    store.waiting[0]?.proceed();
    await deleting;
    expect(await refusal(() => channels.open('lobby'))).toEqual(notFound('lobby'));
  });
});
