import { type ErrorBody, ProtocolError } from '@goforward/realtime-protocol';
import fc from 'fast-check';
import { beforeEach, describe, expect, it } from 'vitest';
import type { Connection } from './connection.js';
import { ConnectionRegistry } from './connection-registry.js';

let registry: ConnectionRegistry;

beforeEach(() => {
  registry = new ConnectionRegistry({ maxConnections: 4, maxConnectionsPerUser: 2, maxConnectionsPerIp: 3 });
});

/** Creates the part of a connection that a registry reads. */
function connection(userId: string, address: string): Connection {
  return { userId, address } as Connection;
}

function refusal(userId: string | null, address: string): ErrorBody | undefined {
  try {
    registry.requireRoom(userId, address);
    return undefined;
  } catch (error) {
    if (error instanceof ProtocolError) return error.body;
    throw error;
  }
}

describe('a new connection is allowed', () => {
  it('until the user has too many connections, from any address', () => {
    registry.add(connection('ann', '192.0.2.1'));
    expect(refusal('ann', '192.0.2.2')).toBeUndefined();
    const second = connection('ann', '192.0.2.2');
    registry.add(second);
    expect(refusal('ann', '192.0.2.3')).toEqual({
      error: 'connection limit reached',
      code: 'CONNECTION_LIMIT_REACHED',
      details: 'The user has 2 connections',
      limit: 2,
    });
    expect(refusal('bob', '192.0.2.3')).toBeUndefined();
    registry.remove(second);
    expect(refusal('ann', '192.0.2.3')).toBeUndefined();
  });

  it('until the address has too many, of any users, also before the user is known', () => {
    for (const user of ['ann', 'bob', 'cat']) registry.add(connection(user, '192.0.2.1'));
    for (const user of ['dan', null]) {
      expect(refusal(user, '192.0.2.1')).toMatchObject({
        details: 'The address has 3 connections',
        limit: 3,
      });
      expect(refusal(user, '192.0.2.2')).toBeUndefined();
    }
  });

  it('until the server has too many', () => {
    for (const n of [1, 2, 3, 4]) registry.add(connection(`user-${n}`, `192.0.2.${n}`));
    for (const user of ['ann', null]) {
      expect(refusal(user, '192.0.2.9')).toMatchObject({ details: 'The server has 4 connections', limit: 4 });
    }
  });
});

describe('a handshake that waits', () => {
  it('counts as a connection of its user, its address and the server, until it has ended', async () => {
    const ends: (() => void)[] = [];
    const wait = () => new Promise<void>((resolve) => ends.push(resolve));
    registry.add(connection('ann', '192.0.2.1'));
    const first = registry.whileCounted('ann', '192.0.2.1', wait);
    const refused = (of: string) => ({
      code: 'CONNECTION_LIMIT_REACHED',
      body: expect.objectContaining({ details: expect.stringContaining(of) }),
    });
    await expect(registry.whileCounted('ann', '192.0.2.2', wait)).rejects.toMatchObject(refused('user'));
    const second = registry.whileCounted(null, '192.0.2.1', wait);
    await expect(registry.whileCounted(null, '192.0.2.1', wait)).rejects.toMatchObject(refused('address'));
    const third = registry.whileCounted('bob', '192.0.2.3', wait);
    await expect(registry.whileCounted('cat', '192.0.2.4', wait)).rejects.toMatchObject(refused('server'));
    for (const end of ends) end();
    await Promise.all([first, second, third]);
    await registry.whileCounted('ann', '192.0.2.1', async () => undefined);
  });

  it('releases its place when it fails, and is left to the later checks when no other waits', async () => {
    for (const n of [1, 2]) registry.add(connection('ann', `192.0.2.${n}`));
    for (const _ of [1, 2, 3]) {
      const failing = registry.whileCounted('ann', '192.0.2.1', () =>
        Promise.reject(new Error('no channel')),
      );
      await expect(failing).rejects.toThrow('no channel');
    }
  });
});

it('counts match the present connections, also when one is removed twice', () => {
  const all = [0, 1, 2, 3, 4, 5].map((n) => connection(`user-${n % 3}`, `192.0.2.${n % 2}`));
  const step = fc.record({ n: fc.nat({ max: 5 }), adds: fc.boolean() });
  fc.assert(
    fc.property(fc.array(step, { maxLength: 30, size: 'max' }), (steps) => {
      const counting = new ConnectionRegistry({
        maxConnections: 99,
        maxConnectionsPerUser: 99,
        maxConnectionsPerIp: 2,
      });
      const present = new Set<Connection>();
      for (const { n, adds } of steps) {
        const one = all[n];
        if (one === undefined || (adds && present.has(one))) continue;
        if (adds) counting.add(one);
        else counting.remove(one);
        if (adds) present.add(one);
        else present.delete(one);
      }
      const byUser = new Map<string, number>();
      for (const { userId } of present) byUser.set(userId, (byUser.get(userId) ?? 0) + 1);
      expect([counting.size, new Set(counting.all()), counting.byUser]).toEqual([
        present.size,
        present,
        byUser,
      ]);
      for (const address of ['192.0.2.0', '192.0.2.1']) {
        const count = [...present].filter((one) => one.address === address).length;
        if (count >= 2) expect(() => counting.requireRoom(null, address)).toThrow('connection limit');
        else counting.requireRoom(null, address);
      }
    }),
  );
});
