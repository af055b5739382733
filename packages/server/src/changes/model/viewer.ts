import type { Identity } from '../../auth/identity.js';

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
}

/** Makes the context of an identity, and keeps it with the identity. */
export class Viewers {
  readonly #dbRoles: ReadonlySet<string>;
  readonly #known = new WeakMap<Identity, Viewer>();

  /** `dbRoles`: the database roles that a token's role may choose. */
  constructor(dbRoles: readonly string[]) {
    this.#dbRoles = new Set(dbRoles);
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
    return { key: JSON.stringify([role, userId, json]), role, userId, claims: json };
  }
}
