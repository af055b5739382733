import type { Subscriber } from '../../packages/server/src/channels/subscriber.js';

/** Creates a subscriber without a socket. Default: user `ann`, never backed up. */
export function fakeSubscriber(parts: Partial<Subscriber> = {}): Subscriber {
  const { userId = 'ann' } = parts;
  const push = parts.push ?? (() => undefined);
  return {
    id: 'c1',
    userId,
    identity: { userId, limitedAs: userId, roles: ['user'], expiresAt: null, claims: {} },
    echo: true,
    presence: 'each',
    bufferedBytes: 0,
    drainedBytes: 0,
    push,
    pushPaced: push,
    whenDrained: (callback) => callback(),
    closeSlowConsumer: () => undefined,
    channelClosed: () => undefined,
    ...parts,
  };
}
