import { listType, type SettingType } from './setting-type.js';

/** A PostgreSQL setting that policies read, and the token claim that it is set from. */
export interface ClaimSetting {
  /** The name for `current_setting`: `app.current_tenant`. */
  readonly name: string;
  /** The name of a claim, or a path into one: `app_metadata.tenant_id`. */
  readonly claim: string;
}

/** Names of custom settings that PostgreSQL accepts: identifiers separated by dots. */
const NAME = /^[a-z_][a-z0-9_$]*(?:\.[a-z_][a-z0-9_$]*)+$/i;
const MAX_NAME_LENGTH = 100;
/**
 * Claims that differ from token to token of one user. Policies do not see them: rows would be evaluated for
 * each connection, and with the times of the token that came first.
 */
export const TOKEN_CLAIMS: ReadonlySet<string> = new Set(['exp', 'iat', 'jti', 'nbf']);
/** Names that the server or PostgreSQL uses itself. */
const RESERVED = /^(?:app\.current_user_id|(?:request|realtime|plpgsql|pg_\w*)\..*)$/i;

/** Pairs of a setting and a claim: `app.current_tenant=tenant_id`. */
export function claimSettings(): SettingType<readonly ClaimSetting[]> {
  return listType({
    expects:
      'settings with a dot in their names and claims, as in app.current_tenant=tenant_id (app.current_user_id, request.*, realtime.*, plpgsql.* and pg_* are reserved, and policies see no exp, iat, jti and nbf)',
    placeholder: 'list',
    read: readPair,
    show: ({ name, claim }) => `${name}=${claim}`,
  });
}

function readPair(text: string): ClaimSetting | undefined {
  const [, name = '', claim = ''] = /^([^=]*?)\s*=\s*([^=\s].*)$/s.exec(text) ?? [];
  const isName = NAME.test(name) && name.length <= MAX_NAME_LENGTH && !RESERVED.test(name);
  const isClaim = claim !== '' && !claim.includes('\0') && !TOKEN_CLAIMS.has(claim);
  return isName && isClaim ? { name, claim } : undefined;
}
