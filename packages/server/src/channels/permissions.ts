import { ProtocolError } from '@goforward/realtime-protocol';
import { ANONYMOUS_ROLE, type Identity } from '../auth/identity.js';
import type { ChannelConfig } from './channel-config.js';

export type Permission = 'read' | 'write' | 'admin';

/**
 * Decides whether an identity may read, write or administer a channel. A missing `read` or `write` list
 * allows every authenticated user (with `require_auth: false` everybody), a missing `admin` list only the
 * server admin. The server admin passes every list.
 */
export class Permissions {
  readonly #adminRoles: ReadonlySet<string>;

  constructor(adminRoles: readonly string[]) {
    this.#adminRoles = new Set(adminRoles);
  }

  isServerAdmin(identity: Identity): boolean {
    return identity.roles.some((role) => this.#adminRoles.has(role));
  }

  allows(identity: Identity, permission: Permission, config: ChannelConfig): boolean {
    if (this.isServerAdmin(identity)) return true;
    if (config.require_auth && identity.roles.includes(ANONYMOUS_ROLE)) return false;
    const list = config.permissions[permission];
    if (list === undefined) return permission !== 'admin';
    return identity.roles.some((role) => list.includes(role));
  }

  /** Throws PERMISSION_DENIED, which names the permission, unless it is granted. */
  require(identity: Identity, permission: Permission, config: ChannelConfig): void {
    if (this.allows(identity, permission, config)) return;
    throw new ProtocolError('PERMISSION_DENIED', { fields: { required_permission: permission } });
  }

  /** Throws PERMISSION_DENIED unless the identity is a server admin. */
  requireServerAdmin(identity: Identity): void {
    if (this.isServerAdmin(identity)) return;
    throw new ProtocolError('PERMISSION_DENIED', { fields: { required_permission: 'admin' } });
  }
}
