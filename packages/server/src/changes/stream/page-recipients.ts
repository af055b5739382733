import type { Channel } from '../../channels/channel.js';
import type { Subscriber } from '../../channels/subscriber.js';
import { comparePositions, type Position } from '../model/position.js';
import type { Recipients } from '../routing/recipients.js';

interface PageMember {
  readonly member: Subscriber;
  readonly channel: Channel;
  /** The member has everything up to here. */
  readonly position: Position;
}

/**
 * Keeps the recipients of one page for the next one, as long as all members of that have everything up to where they
 * stand: membership lists are then kept up to date by the changes of the pages, and not read again in a later state.
 */
export class PageRecipients {
  readonly #newRecipients: () => Recipients;
  #kept: { readonly recipients: Recipients; readonly members: Set<Subscriber>; end: Position } | undefined;

  #drops = 0;
  /** How often `drop` had been called when the page began. */
  #dropsBefore = 0;

  constructor(newRecipients: () => Recipients) {
    this.#newRecipients = newRecipients;
  }

  /** Returns the recipients for a page of these members. */
  of(members: readonly PageMember[]): Recipients {
    const kept = this.#kept;
    this.#kept = undefined;
    this.#dropsBefore = this.#drops;
    if (kept === undefined || members.some(({ position }) => comparePositions(position, kept.end) !== 0)) {
      const recipients = this.#newRecipients();
      for (const { member, channel } of members) recipients.join(member, channel);
      return recipients;
    }
    const { recipients } = kept;
    const present = new Set(members.map(({ member }) => member));
    for (const member of kept.members) if (!present.has(member)) recipients.leave(member);
    for (const { member, channel } of members)
      if (kept.members.has(member)) recipients.refresh(member);
      else recipients.join(member, channel);
    return recipients;
  }

  /** Has membership lists read again, also those of the page that is being routed. */
  drop(): void {
    this.#kept = undefined;
    this.#drops += 1;
  }

  /** Keeps the recipients of a page up to `end` that was decided for all its members. */
  keep(recipients: Recipients, members: readonly PageMember[], end: Position): void {
    if (this.#drops !== this.#dropsBefore) return;
    this.#kept = { recipients, members: new Set(members.map(({ member }) => member)), end };
  }
}
