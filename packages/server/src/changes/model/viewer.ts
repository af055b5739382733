import type { Identity } from '../../auth/identity.js';
import type { ClaimSetting } from '../../config/claim-setting-type.js';
import { claimText } from './claim-text.js';

/** The role that rows are judged as, where a token chooses no other. */
export const DEFAULT_DB_ROLE = 'realtime_subscriber';

/** Whom a row is judged for: the database role and the settings that a SELECT of this user would run with. */
export interface Viewer {
  /** Equal for equal contexts: they are judged once. */
  readonly key: string;
  readonly role: string;
  /** `app.current_user_id` */
  readonly userId: string;
  /** `request.jwt.claims`, as JSON. */
  readonly claims: string;
  /** Settings from claims: the same names in the same order in every context. */
  readonly settings: readonly RowSetting[];
}

/** A setting that policies read. */
export interface RowSetting {
  readonly name: string;
  readonly value: string;
}

/** Everything that a SELECT of this user would run with. */
export function settingsOf({ userId, claims, settings }: Viewer): readonly RowSetting[] {
  return [
    { name: 'app.current_user_id', value: userId },
    { name: 'request.jwt.claims', value: claims },
    ...settings,
  ];
}

/** Sets all of them for a transaction: the text and values of one statement. */
export function settingsStatement(context: Viewer): readonly [sql: string, values: readonly string[]] {
  const settings = settingsOf(context);
  const calls = settings.map((_, n) => `pg_catalog.set_config($${2 * n + 1}, $${2 * n + 2}, true)`);
  return [`SELECT ${calls.join(', ')}`, settings.flatMap(({ name, value }) => [name, value])];
}

/** Makes the context of an identity, and keeps it with the identity. */
export class Viewers {
  readonly #dbRoles: ReadonlySet<string>;
  readonly #claimSettings: readonly ClaimSetting[];
  readonly #known = new WeakMap<Identity, Viewer>();

  /** `dbRoles`: the database roles that a token's role may choose. `claimSettings`: what is set from claims. */
  constructor(dbRoles: readonly string[], claimSettings: readonly ClaimSetting[]) {
    this.#dbRoles = new Set(dbRoles);
    this.#claimSettings = claimSettings;
  }

  of(identity: Identity): Viewer {
    let viewer = this.#known.get(identity);
    if (viewer === undefined) {
      viewer = this.#make(identity);
      this.#known.set(identity, viewer);
    }
    return viewer;
  }

  #make({ userId, roles, claims }: Identity): Viewer {
    const role = roles.find((name) => this.#dbRoles.has(name)) ?? DEFAULT_DB_ROLE;
    const json = JSON.stringify(claims);
    const settings = this.#claimSettings.map(({ name, claim }) => ({
      name,
      value: claimText(claims, claim),
    }));
    const key = JSON.stringify([role, userId, json, settings.map(({ value }) => value)]);
    return { key, role, userId, claims: json, settings };
  }
}
