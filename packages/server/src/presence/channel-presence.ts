import type { PresenceMap, PresenceState } from '@goforward/realtime-protocol';

/** What a user's keys are, without the `last_seen` that the server keeps. */
export type PresenceFields = Readonly<Record<string, unknown>>;

interface Listed {
  readonly fields: PresenceFields;
  lastSeen: number;
}

/** How the listing changed since the last look: each user stands in at most one of the three. */
export interface PresenceDelta {
  readonly joins: PresenceMap;
  readonly updates: PresenceMap;
  readonly leaves: PresenceMap;
}

/** The keys of `patch` laid over those of `fields`; `null` removes a key. `last_seen` is not the user's to set. */
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
 * Who is listed in one channel and with what state; pure. Changes gather until `takeDelta`, which tells the
 * difference to the last time: a user who joined and left in between is not mentioned, several updates are one.
 */
export class ChannelPresence {
  readonly #listed = new Map<string, Listed>();
  /** Users that changed since the last delta: null if not listed then, else what they were listed with (at their last leave). */
  readonly #before = new Map<string, Listed | null>();

  get count(): number {
    return this.#listed.size;
  }

  isListed(userId: string): boolean {
    return this.#listed.has(userId);
  }

  /** Lists the user as online; of one who is listed already, only the time changes. */
  join(userId: string, now: number): void {
    if (this.#listed.has(userId)) this.seen(userId, now);
    else this.#set(userId, { fields: { status: 'online' }, lastSeen: now });
  }

  /** What the user's keys would be after `patch`: to be judged before it is set. */
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

  /** Who has been listed longest, at most `most` users. */
  first(most: number): string[] {
    const users: string[] = [];
    for (const userId of this.#listed.keys()) {
      if (users.length === most) break;
      users.push(userId);
    }
    return users;
  }

  /** The state of a user who is listed. */
  state(userId: string): PresenceState | undefined {
    const listed = this.#listed.get(userId);
    return listed === undefined ? undefined : stateOf(listed);
  }

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
