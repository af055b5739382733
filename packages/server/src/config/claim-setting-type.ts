import { listType, type SettingType } from './setting-type.js';

/** A setting of PostgreSQL that policies read, and the claim of the token that it comes from. */
export interface ClaimSetting {
  /** As `current_setting` takes it: `app.current_tenant`. */
  readonly name: string;
  /** The name of a claim, or the way to one within others: `app_metadata.tenant_id`. */
  readonly claim: string;
}

/** What PostgreSQL takes as the name of a setting that it does not know: identifiers with dots between. */
const NAME = /^[a-z_][a-z0-9_$]*(?:\.[a-z_][a-z0-9_$]*)+$/i;
const MAX_NAME_LENGTH = 100;
/** Set for every user already, or not for applications to set. */
const TAKEN = /^(?:app\.current_user_id|(?:request|realtime|plpgsql|pg_\w*)\..*)$/i;

/** Pairs of a setting and a claim, as in `app.current_tenant=tenant_id`. */
export function claimSettings(): SettingType<readonly ClaimSetting[]> {
  return listType({
    expects:
      'settings with a dot in their names and claims, as in app.current_tenant=tenant_id (app.current_user_id, request.*, realtime.*, plpgsql.* and pg_* are taken)',
    placeholder: 'list',
    read: readPair,
    show: ({ name, claim }) => `${name}=${claim}`,
  });
}

function readPair(text: string): ClaimSetting | undefined {
  const at = text.indexOf('=');
  const [name, claim] = [text.slice(0, Math.max(at, 0)).trim(), text.slice(at + 1).trim()];
  const isName = NAME.test(name) && name.length <= MAX_NAME_LENGTH && !TAKEN.test(name);
  return isName && claim !== '' && !claim.includes('\0') ? { name, claim } : undefined;
}
