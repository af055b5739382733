import type { JWTPayload } from 'jose';

/** Who a connection or request speaks for: the claims of a verified token, or nobody in particular. */
export interface Identity {
  readonly userId: string;
  /** Whom limits per user count: the user; of those without a token, the address. */
  readonly limitedAs: string;
  readonly roles: readonly string[];
  /** When the token ends, in ms since the epoch; null when it never does. */
  readonly expiresAt: number | null;
  readonly claims: Readonly<JWTPayload>;
}

/** The role of a connection without a token, in channels that do not require one. */
export const ANONYMOUS_ROLE = 'anonymous';
/** The role of a token that names none. */
const DEFAULT_ROLE = 'user';
/** The sender of messages that no user sent; a token must not pass for it. */
export const SYSTEM_USER = 'system';
const MAX_USER_ID_LENGTH = 255;
/** The last moment that a Date can name, in ms; a token that ends after it never ends. */
const LAST_DATE_MS = 8.64e15;

/** The identity of a verified token's claims, or null when they name no user. */
export function identityOf(claims: JWTPayload): Identity | null {
  const userId = claims.user_id ?? claims.sub;
  if (typeof userId !== 'string' || userId === '' || userId.length > MAX_USER_ID_LENGTH) return null;
  if (userId === SYSTEM_USER) return null;
  const metadata = claims.app_metadata;
  const nested =
    typeof metadata === 'object' && metadata !== null && 'roles' in metadata ? metadata.roles : [];
  const roles = new Set([...texts(claims.role), ...texts(claims.roles), ...texts(nested)]);
  return {
    userId,
    limitedAs: userId,
    roles: roles.size > 0 ? [...roles] : [DEFAULT_ROLE],
    expiresAt: claims.exp === undefined || claims.exp * 1000 > LAST_DATE_MS ? null : claims.exp * 1000,
    claims,
  };
}

/** The identity of a connection without a token. Its user is a new one with each connection, so limits count the address. */
export function anonymousIdentity(connectionId: string, address: string): Identity {
  return {
    userId: `anon_${connectionId}`,
    limitedAs: `anon@${address}`,
    roles: [ANONYMOUS_ROLE],
    expiresAt: null,
    claims: {},
  };
}

function texts(value: unknown): string[] {
  const list = Array.isArray(value) ? value : [value];
  return list.filter((item): item is string => typeof item === 'string' && item !== '');
}
