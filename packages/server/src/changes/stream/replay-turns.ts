import type { Subscriber } from '../../channels/subscriber.js';

/**
 * Lets users take turns with pages of the resume window, so that one who resumes again and again from far back does not
 * delay the others.
 */
export class ReplayTurns {
  /** The last turn of each user, as a number that grows. */
  readonly #turns = new Map<string, number>();
  #count = 0;

  /**
   * Returns the first of `ready` whose user had its last turn the longest ago. `all`: everybody who catches up; the turns
   * of other users are forgotten.
   */
  next<Ready extends { readonly member: Subscriber }>(
    ready: readonly Ready[],
    all: Iterable<Subscriber>,
  ): Ready | undefined {
    let next: Ready | undefined;
    for (const each of ready) if (next === undefined || this.#lastOf(each) < this.#lastOf(next)) next = each;
    if (next === undefined) return undefined;
    const users = new Set<string>();
    for (const { identity } of all) users.add(identity.limitedAs);
    for (const user of this.#turns.keys()) if (!users.has(user)) this.#turns.delete(user);
    this.#count += 1;
    this.#turns.set(next.member.identity.limitedAs, this.#count);
    return next;
  }

  #lastOf({ member }: { readonly member: Subscriber }): number {
    return this.#turns.get(member.identity.limitedAs) ?? 0;
  }
}
