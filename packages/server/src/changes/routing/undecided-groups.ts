import type { RecipientGroup, TableViewer } from '../model/recipient-group.js';
import type { Undecided } from '../visibility/authorizer.js';
import type { TableRecipients } from './recipients.js';

/**
 * Collects the recipient groups for which a batch is not decided at its deadline. They get nothing of it: a member that
 * gets some changes must have got all that committed before.
 */
export class UndecidedGroups {
  readonly #groups = new Map<RecipientGroup, Undecided>();

  /** Each group, with whether it is slow itself. */
  get all(): ReadonlyMap<RecipientGroup, Undecided> {
    return this.#groups;
  }

  has(group: RecipientGroup): boolean {
    return this.#groups.has(group);
  }

  add(group: RecipientGroup, why: Undecided): void {
    if (this.#groups.get(group) !== 'slow') this.#groups.set(group, why);
  }

  /** Adds all groups of viewers, also those that no change of this batch concerns: the next one would wait for them. */
  addViewers(viewers: ReadonlyMap<TableViewer, Undecided>): void {
    for (const [{ groups }, why] of viewers) for (const group of groups) this.add(group, why);
  }

  /** Adds all recipients of a table. */
  addTable({ byRole }: TableRecipients): void {
    for (const { viewers } of byRole.values())
      for (const { groups } of viewers.values()) for (const group of groups) this.add(group, 'behind');
  }
}
