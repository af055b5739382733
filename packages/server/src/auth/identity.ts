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
  /** Set for a session without a token of a user. */
  readonly isAnonymous?: true;
}

/** The role of a connection without a token, in channels that do not require one. */
export const ANONYMOUS_ROLE = 'anonymous';
/** The role of a token that names none. */
const DEFAULT_ROLE = 'user';
/** The sender of messages that no user sent; a token must not pass for it. */
export const SYSTEM_USER = 'system';
/** Roles of a token that stands for no user, as Supabase's anon key has them. */
const ANONYMOUS_TOKEN_ROLES: ReadonlySet<string> = new Set(['anon', ANONYMOUS_ROLE]);
const MAX_USER_ID_LENGTH = 255;
/** PostgreSQL has no text with half a surrogate pair in it. */
const LONE_SURROGATE = /\p{Cs}/u;
/** The last moment that a Date can name, in ms; a token that ends after it never ends. */
const LAST_DATE_MS = 8.64e15;

/** The identity of a verified token's claims, or null when they name no user that may exist. */
export function identityOf(claims: JWTPayload): Identity | null {
  const userId = namedUser(claims);
  if (typeof userId !== 'string' || !isUsable(userId)) return null;
  const roles = rolesOf(claims);
  return {
    userId,
    limitedAs: userId,
    roles: roles.length > 0 ? roles : [DEFAULT_ROLE],
    expiresAt: claims.exp === undefined || claims.exp * 1000 > LAST_DATE_MS ? null : claims.exp * 1000,
    claims,
  };
}

/** Whether a verified token stands for a session without a token: it names no user, and no role but anonymous ones. */
export function isAnonymousToken(claims: JWTPayload): boolean {
  const roles = rolesOf(claims);
  return (
    namedUser(claims) === null && roles.length > 0 && roles.every((role) => ANONYMOUS_TOKEN_ROLES.has(role))
  );
}

/**
 * The identity of a connection or HTTP request without a token, by its id. Its user is a new one each time, so limits
 * count the address.
 */
export function anonymousIdentity(id: string, address: string): Identity {
  return {
    userId: `anon_${id}`,
    limitedAs: `anon@${address}`,
    roles: [ANONYMOUS_ROLE],
    expiresAt: null,
    claims: {},
    isAnonymous: true,
  };
}

/** Null where neither claim is there; else what stands there, usable or not. */
function namedUser(claims: JWTPayload): unknown {
  return claims.user_id ?? claims.sub ?? null;
}

/** Whether a user may have this id: it passes for nobody else, and PostgreSQL can take it. */
function isUsable(userId: string): boolean {
  if (userId === '' || userId === SYSTEM_USER || userId.length > MAX_USER_ID_LENGTH) return false;
  return !userId.includes('\0') && !LONE_SURROGATE.test(userId);
}

function rolesOf({ role, roles, app_metadata: metadata }: JWTPayload): string[] {
  const nested =
    typeof metadata === 'object' && metadata !== null && 'roles' in metadata ? metadata.roles : [];
  return [...new Set([...texts(role), ...texts(roles), ...texts(nested)])];
}

function texts(value: unknown): string[] {
  const list = Array.isArray(value) ? value : [value];
  return list.filter((item): item is string => typeof item === 'string' && item !== '');
}
