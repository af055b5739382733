import type { Identity } from '../../auth/identity.js';

/** The database role of a viewer whose token selects no other. */
export const DEFAULT_DB_ROLE = 'realtime_subscriber';

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
  /** `request.jwt.claims`, as JSON. */
  readonly claims: string;
}

/** Returns the viewer of an identity, and remembers it as long as the identity lives. */
export class Viewers {
  readonly #dbRoles: ReadonlySet<string>;
  readonly #known = new WeakMap<Identity, Viewer>();

  /** `dbRoles`: the database roles that a role of a token may select. */
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
