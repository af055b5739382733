import type { PresenceMap, PresenceState } from '@goforward/realtime-protocol';

/**
 * A user's own presence keys, without the `last_seen` of the server. A value that a client has sent is a JsonText.
 */
export type PresenceFields = Readonly<Record<string, unknown>>;

interface Listed {
  readonly fields: PresenceFields;
  /** In ms since 1970. */
  lastSeen: number;
}

/** The changes since the previous delta. Each user is in at most one of the three maps. */
export interface PresenceDelta {
  readonly joins: PresenceMap;
  readonly updates: PresenceMap;
  readonly leaves: PresenceMap;
}

/** Merges `patch` key by key; `null` removes a key. Ignores `last_seen`, which only the server sets. */
export function mergeFields(fields: PresenceFields, patch: PresenceFields): PresenceFields {
  const merged = new Map(Object.entries(fields));
  for (const [key, value] of Object.entries(patch)) {
    if (key === 'last_seen') continue;
    if (value === null) merged.delete(key);
    else merged.set(key, value);
  }
  return Object.fromEntries(merged);
}

/**
 * Keeps the listed users of one channel and their states, without I/O. `takeDelta` returns the difference to
 * the previous call: it omits a user who joined and left in between, and merges several updates of a user
 * into one.
 */
export class ChannelPresence {
  readonly #listed = new Map<string, Listed>();
  /**
   * Users changed since the last delta: null if unlisted then, else their state then or at their last leave.
   */
  readonly #before = new Map<string, Listed | null>();

  get count(): number {
    return this.#listed.size;
  }

  isListed(userId: string): boolean {
    return this.#listed.has(userId);
  }

  /** Lists the user as online. For a listed user, updates `last_seen` only. */
  join(userId: string, now: number): void {
    if (this.#listed.has(userId)) this.seen(userId, now);
    else this.#set(userId, { fields: { status: 'online' }, lastSeen: now });
  }

  /** Returns the user's keys after `patch`, so that the caller can check them before `set`. */
  merged(userId: string, patch: PresenceFields): PresenceFields {
    return mergeFields(this.#listed.get(userId)?.fields ?? { status: 'online' }, patch);
  }

  set(userId: string, fields: PresenceFields, now: number): void {
    this.#set(userId, { fields, lastSeen: now });
  }

  seen(userId: string, now: number): void {
    const listed = this.#listed.get(userId);
    if (listed !== undefined) listed.lastSeen = now;
  }

  leave(userId: string): void {
    const listed = this.#listed.get(userId);
    if (listed === undefined) return;
    if (this.#before.get(userId) !== null) this.#before.set(userId, listed);
    this.#listed.delete(userId);
  }

  snapshot(): PresenceMap {
    return Object.fromEntries([...this.#listed].map(([userId, listed]) => [userId, stateOf(listed)]));
  }

  /** Returns the users listed for longest, at most `limit`. */
  first(limit: number): string[] {
    const users: string[] = [];
    for (const userId of this.#listed.keys()) {
      if (users.length === limit) break;
      users.push(userId);
    }
    return users;
  }

  /** Returns the state of a user, undefined for one who is not listed. */
  state(userId: string): PresenceState | undefined {
    const listed = this.#listed.get(userId);
    return listed === undefined ? undefined : stateOf(listed);
  }

  /** Returns the changes since the previous call. */
  takeDelta(): PresenceDelta {
    const joins: [string, PresenceState][] = [];
    const updates: [string, PresenceState][] = [];
    const leaves: [string, PresenceState][] = [];
    for (const [userId, before] of this.#before) {
      const listed = this.#listed.get(userId);
      if (listed !== undefined) (before === null ? joins : updates).push([userId, stateOf(listed)]);
      else if (before !== null) leaves.push([userId, { ...stateOf(before), status: 'offline' }]);
    }
    this.#before.clear();
    return {
      joins: Object.fromEntries(joins),
      updates: Object.fromEntries(updates),
      leaves: Object.fromEntries(leaves),
    };
  }

  #set(userId: string, listed: Listed): void {
    this.#remember(userId);
    this.#listed.set(userId, listed);
  }

  #remember(userId: string): void {
    if (!this.#before.has(userId)) this.#before.set(userId, this.#listed.get(userId) ?? null);
  }
}

function stateOf({ fields, lastSeen }: Listed): PresenceState {
  return { ...fields, last_seen: new Date(lastSeen).toISOString() };
}
