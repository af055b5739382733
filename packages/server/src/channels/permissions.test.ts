import { ProtocolError } from '@goforward/realtime-protocol';
import { describe, expect, it } from 'vitest';
import { anonymousIdentity, type Identity } from '../auth/identity.js';
import { type ChannelConfig, type ChannelPermissions, channelConfig } from './channel-config.js';
import { type Permission, Permissions } from './permissions.js';

const permissions = new Permissions(['admin', 'service_role']);

function user(...roles: string[]): Identity {
  return { userId: 'ann', limitedAs: 'ann', roles, expiresAt: null, claims: {} };
}

function channel(lists: ChannelPermissions, requireAuth = true): ChannelConfig {
  return channelConfig({ permissions: lists, require_auth: requireAuth }, 100);
}

function granted(identity: Identity, config: ChannelConfig): string {
  const all: Permission[] = ['read', 'write', 'admin'];
  return all.filter((permission) => permissions.allows(identity, permission, config)).join(' ');
}

const anonymous = anonymousIdentity('c1', '192.0.2.1');
const lists = { read: ['user', 'guest'], write: ['user'], admin: ['owner'] };

describe('channel permissions', () => {
  it.each<[string, Identity, ChannelConfig, string]>([
    ['a user, without lists', user('user'), channel({}), 'read write'],
    ['any role, without lists', user('whatever'), channel({}), 'read write'],
    ['the server admin, without lists', user('admin'), channel({}), 'read write admin'],
    ['the server admin, past every list', user('service_role'), channel(lists), 'read write admin'],
    [
      'the server admin, past empty lists',
      user('x', 'admin'),
      channel({ read: [], write: [], admin: [] }),
      'read write admin',
    ],
    ['a user of every list but one', user('user'), channel(lists), 'read write'],
    ['a guest', user('guest'), channel(lists), 'read'],
    ['the owner, on no other list', user('owner'), channel(lists), 'admin'],
    ['a user of two roles', user('guest', 'owner'), channel(lists), 'read admin'],
    ['a stranger', user('stranger'), channel(lists), ''],
    ['a role that only looks alike', user('User', 'user '), channel(lists), ''],
    ['a user, where the list is empty', user('user'), channel({ write: [] }), 'read'],
    ['an anonymous session, where authentication is required', anonymous, channel({}), ''],
    [
      'an anonymous session, where authentication is required, even if a list names it',
      anonymous,
      channel({ read: ['anonymous'] }),
      '',
    ],
    [
      'an anonymous session, without required authentication and lists',
      anonymous,
      channel({}, false),
      'read write',
    ],
    ['an anonymous session, where the lists do not name it', anonymous, channel(lists, false), ''],
    [
      'an anonymous session, where a list names it',
      anonymous,
      channel({ read: ['anonymous'], write: ['user'] }, false),
      'read',
    ],
    ['a user, where authentication is not required', user('user'), channel(lists, false), 'read write'],
  ])('of %s', (_, identity, config, expected) => {
    expect(granted(identity, config)).toBe(expected);
  });

  it('that are missing are named in the error', () => {
    for (const permission of ['read', 'write', 'admin'] as const) {
      let refusal: unknown;
      try {
        permissions.require(user('stranger'), permission, channel(lists));
      } catch (error) {
        refusal = error;
      }
      expect(refusal).toBeInstanceOf(ProtocolError);
      expect(refusal).toMatchObject({
        body: {
          error: 'insufficient permissions',
          code: 'PERMISSION_DENIED',
          required_permission: permission,
        },
      });
      permissions.require(user('admin'), permission, channel(lists));
    }
  });

  it('of the server admin depend on the role alone', () => {
    permissions.requireServerAdmin(user('user', 'service_role'));
    for (const identity of [user('user'), user(), anonymous, user('owner')]) {
      expect(() => permissions.requireServerAdmin(identity)).toThrow('insufficient permissions');
    }
    expect(new Permissions([]).isServerAdmin(user('admin'))).toBe(false);
  });
});
