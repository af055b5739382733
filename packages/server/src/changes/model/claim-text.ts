import type { DatabaseText } from '../../postgres/sql/database-text.js';
import { type Claims, storableJson } from './evaluation-claims.js';

/**
 * The text of a claim for a setting of PostgreSQL. `claim` is the name of one, or names with dots between that lead into
 * objects. Numbers and booleans are text, objects and arrays JSON; what is missing, null or no text for the database is ''.
 */
export function claimText(claims: Claims, claim: string, text: DatabaseText): string {
  const value = Object.hasOwn(claims, claim) ? claims[claim] : nested(claims, claim.split('.'));
  if (value === undefined || value === null) return '';
  if (typeof value !== 'string') return storableJson(value, text, () => undefined);
  return text.canStore(value) ? value : '';
}

function nested(claims: Claims, path: readonly string[]): unknown {
  let value: unknown = claims;
  for (const name of path) {
    if (typeof value !== 'object' || value === null || Array.isArray(value)) return undefined;
    value = Object.hasOwn(value, name) ? (value as Claims)[name] : undefined;
  }
  return value;
}
