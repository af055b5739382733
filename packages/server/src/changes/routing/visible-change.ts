import type { Subscription } from '../subscriptions/subscription.js';
import type { ChangeMatch } from './filter-matches.js';

/** The visible part of a change: which row versions are sent, and for which subscriptions. */
export interface VisibleChange {
  readonly showsOld: boolean;
  readonly showsNew: boolean;
  readonly visibility?: 'gained' | 'lost';
  readonly subscriptions: readonly Subscription[];
}

/** Whether the policies show a row version to the viewer; undefined: unknown. */
export type IsVisible = (row: number) => boolean | undefined;

/**
 * Returns the part of a matching change that a viewer gets; undefined: nothing. If only one version of an
 * update is visible, the visibility is `gained` or `lost`. If the old version is unknown, the update is sent
 * without `gained`.
 */
export function visibleChangeOf(match: ChangeMatch, isVisible: IsVisible): VisibleChange | undefined {
  const { change, oldSubscriptions, newSubscriptions } = match;
  const { kind } = change.streamed;
  if (kind === 'truncate') return { showsOld: false, showsNew: false, subscriptions: oldSubscriptions };
  const seesNew = newSubscriptions.length > 0 && isVisible(change.newRow) === true;
  const old = oldSubscriptions.length > 0 ? isVisible(change.oldRow) : false;
  const seesOld = old === true;
  if (kind === 'insert')
    return seesNew ? { showsOld: false, showsNew: true, subscriptions: newSubscriptions } : undefined;
  if (kind === 'delete')
    return seesOld ? { showsOld: true, showsNew: false, subscriptions: oldSubscriptions } : undefined;
  if (seesNew && seesOld) {
    return { showsOld: true, showsNew: true, subscriptions: union(newSubscriptions, oldSubscriptions) };
  }
  if (seesNew) {
    const isOldKnown = !match.isOldUnknown && old !== undefined;
    const shown = { showsOld: false, showsNew: true, subscriptions: newSubscriptions };
    return isOldKnown ? { ...shown, visibility: 'gained' } : shown;
  }
  if (!seesOld) return undefined;
  return { showsOld: true, showsNew: false, visibility: 'lost', subscriptions: oldSubscriptions };
}

function union(a: readonly Subscription[], b: readonly Subscription[]): readonly Subscription[] {
  if (a === b || b.every((subscription) => a.includes(subscription))) return a;
  return [...a, ...b.filter((subscription) => !a.includes(subscription))];
}
