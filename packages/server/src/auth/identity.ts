import type { JWTPayload } from 'jose';
import { isStorableText } from '../lib/storable-text.js';

/** The user of a connection or request, with the claims of its verified token; or an anonymous user. */
export interface Identity {
  readonly userId: string;
  /** The key of limits per user: the user id, or the address of an anonymous user. */
  readonly limitedAs: string;
  readonly roles: readonly string[];
  /** When the token expires, in ms since 1970; null: never. */
  readonly expiresAt: number | null;
  readonly claims: Readonly<JWTPayload>;
  /** Set for a session without a token of a user. */
  readonly isAnonymous?: true;
}

/** The role of a connection without a token, in channels that do not require one. */
export const ANONYMOUS_ROLE = 'anonymous';
/** The role of a token without roles. */
const DEFAULT_ROLE = 'user';
/** The sender of messages that the server itself sends. A token cannot have this user id. */
export const SYSTEM_USER = 'system';
/** Roles of tokens without a user, such as Supabase's anon key. */
const ANONYMOUS_TOKEN_ROLES: ReadonlySet<string> = new Set(['anon', ANONYMOUS_ROLE]);
const MAX_USER_ID_LENGTH = 255;
/**
 * The latest time that a Date can represent, in ms. A token that expires later counts as one that never
 * expires.
 */
const LAST_DATE_MS = 8.64e15;

/** Returns the identity for a verified token's claims, or null if they have no valid user id. */
export function identityOf(claims: JWTPayload): Identity | null {
  const userId = userClaim(claims);
  if (typeof userId !== 'string' || userId === '' || userId === SYSTEM_USER) return null;
  // Policies may read `sub` even if `user_id` names the user.
  if (![userId, claims.sub].every(isStorableId)) return null;
  const roles = rolesOf(claims);
  return {
    userId,
    limitedAs: userId,
    roles: roles.length > 0 ? roles : [DEFAULT_ROLE],
    expiresAt: claims.exp === undefined || claims.exp * 1000 > LAST_DATE_MS ? null : claims.exp * 1000,
    claims,
  };
}

/** Returns whether a verified token counts as none: it has no user, and only anonymous roles. */
export function isAnonymousToken(claims: JWTPayload): boolean {
  const roles = rolesOf(claims);
  return (
    userClaim(claims) === null && roles.length > 0 && roles.every((role) => ANONYMOUS_TOKEN_ROLES.has(role))
  );
}

/**
 * Returns the identity of a connection or HTTP request without a token; `id` is that of the connection or
 * request. The user id is new each time, so limits count the address.
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

/** Returns the claim of any type, or null if neither claim exists. */
function userClaim(claims: JWTPayload): unknown {
  return claims.user_id ?? claims.sub ?? null;
}

/** Returns whether a user id, if it is a text, is short enough and one that PostgreSQL can store. */
function isStorableId(id: unknown): boolean {
  return typeof id !== 'string' || (id.length <= MAX_USER_ID_LENGTH && isStorableText(id));
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
