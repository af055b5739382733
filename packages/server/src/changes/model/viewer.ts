import { createHash } from 'node:crypto';
import type { Identity } from '../../auth/identity.js';
import type { ClaimSetting } from '../../config/claim-setting-type.js';
import { SUBSCRIBER_ROLE } from '../../postgres/migrations/subscriber-role.js';
import { type DatabaseText, UTF8_TEXT } from '../../postgres/sql/database-text.js';
import { claimText } from './claim-text.js';
import { evaluationClaims } from './evaluation-claims.js';

/** The database role of a viewer whose token selects no other. */
export const DEFAULT_DB_ROLE = SUBSCRIBER_ROLE;

/**
 * The context in which row level security is evaluated: the database role and the settings that a SELECT of
 * this user would run with.
 */
export interface Viewer {
  /** Equal for equal contexts, so that a row is evaluated once for all of them. */
  readonly key: string;
  readonly role: string;
  /** `app.current_user_id` */
  readonly userId: string;
  /** `request.jwt.claims`, as JSON, without the claims of a single token. */
  readonly claims: string;
  /** Settings from claims: the same names in the same order in every context. */
  readonly settings: readonly RowSetting[];
  /**
   * Set if the database cannot hold the user id. Its rows belong to nobody by this name, and under another name,
   * even an empty one, a policy could be true of them: the viewer's policies are not evaluated.
   */
  readonly isUnstorable?: true;
}

/** A setting that policies read. */
export interface RowSetting {
  readonly name: string;
  readonly value: string;
}

/** Returns all settings that a SELECT of this viewer runs with. */
export function settingsOf({ userId, claims, settings }: Viewer): readonly RowSetting[] {
  return [
    { name: 'app.current_user_id', value: userId },
    { name: 'request.jwt.claims', value: claims },
    ...settings,
  ];
}

/** Returns the statement, and its values, that sets all of them for one transaction. */
export function settingsStatement(viewer: Viewer): readonly [sql: string, values: readonly string[]] {
  const settings = settingsOf(viewer);
  const calls = settings.map((_, n) => `pg_catalog.set_config($${2 * n + 1}, $${2 * n + 2}, true)`);
  return [`SELECT ${calls.join(', ')}`, settings.flatMap(({ name, value }) => [name, value])];
}

/** Returns the viewer of an identity, and remembers it as long as the identity lives. */
export class Viewers {
  readonly #dbRoles: ReadonlySet<string>;
  readonly #claimSettings: readonly ClaimSetting[];
  readonly #onReplaced: (claims: readonly string[]) => void;
  #known = new WeakMap<Identity, Viewer>();
  #text: DatabaseText = UTF8_TEXT;

  /**
   * `dbRoles`: the database roles that a role of a token may select. `claimSettings`: the settings made from claims.
   * `onReplaced`: called with the names of claims that the database cannot hold.
   */
  constructor(
    dbRoles: readonly string[],
    claimSettings: readonly ClaimSetting[],
    onReplaced: (claims: readonly string[]) => void = () => undefined,
  ) {
    this.#dbRoles = new Set(dbRoles);
    this.#claimSettings = claimSettings;
    this.#onReplaced = onReplaced;
  }

  of(identity: Identity): Viewer {
    let viewer = this.#known.get(identity);
    if (viewer === undefined) {
      viewer = this.#make(identity);
      this.#known.set(identity, viewer);
    }
    return viewer;
  }

  /** Makes viewers for a database that holds these texts, from now on. Returns whether earlier ones may differ. */
  use(text: DatabaseText): boolean {
    if (text === this.#text) return false;
    this.#text = text;
    this.#known = new WeakMap();
    return true;
  }

  #make({ userId, roles, claims }: Identity): Viewer {
    const role = roles.find((name) => this.#dbRoles.has(name)) ?? DEFAULT_DB_ROLE;
    const { json, replaced } = evaluationClaims(claims, this.#text);
    if (replaced.length > 0) this.#onReplaced(replaced);
    const settings = this.#claimSettings.map(({ name, claim }) => ({
      name,
      value: claimText(claims, claim, this.#text),
    }));
    const key = digest(JSON.stringify([role, userId, json, settings.map(({ value }) => value)]));
    const viewer = { key, role, userId, claims: json, settings };
    return this.#text.canStore(userId) ? viewer : { ...viewer, isUnstorable: true };
  }
}

/** A key of constant length: claims can be long. */
function digest(text: string): string {
  return createHash('sha256').update(text).digest('base64url');
}
