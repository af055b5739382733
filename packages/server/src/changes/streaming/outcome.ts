import type { Subscription } from '../subscriptions/subscription.js';
import type { Candidate } from './wants.js';

/** What a member gets of a change that it may see: which versions, and for which subscriptions. */
export interface Outcome {
  readonly showsOld: boolean;
  readonly showsNew: boolean;
  readonly visibility?: 'gained' | 'lost';
  readonly subscriptions: readonly Subscription[];
}

/** Whether a row version is visible by the policies; undefined: that cannot be told. */
export type IsVisible = (row: number) => boolean | undefined;

/**
 * What comes of a candidate for whoever sees its rows so; undefined: nothing. An update of which only one version
 * is visible comes into view or goes out of it; where the old version is not known it is an update like any other.
 */
export function outcomeOf(candidate: Candidate, isVisible: IsVisible): Outcome | undefined {
  const { change, oldWanted, newWanted } = candidate;
  const { kind } = change.streamed;
  if (kind === 'truncate') return { showsOld: false, showsNew: false, subscriptions: oldWanted };
  const seesNew = newWanted.length > 0 && isVisible(change.newRow) === true;
  const old = oldWanted.length > 0 ? isVisible(change.oldRow) : false;
  const seesOld = old === true;
  if (kind === 'insert')
    return seesNew ? { showsOld: false, showsNew: true, subscriptions: newWanted } : undefined;
  if (kind === 'delete')
    return seesOld ? { showsOld: true, showsNew: false, subscriptions: oldWanted } : undefined;
  if (seesNew && seesOld) {
    return { showsOld: true, showsNew: true, subscriptions: union(newWanted, oldWanted) };
  }
  if (seesNew) {
    const isOldKnown = !candidate.isOldUnknown && old !== undefined;
    const shown = { showsOld: false, showsNew: true, subscriptions: newWanted };
    return isOldKnown ? { ...shown, visibility: 'gained' } : shown;
  }
  if (!seesOld) return undefined;
  return { showsOld: true, showsNew: false, visibility: 'lost', subscriptions: oldWanted };
}

function union(a: readonly Subscription[], b: readonly Subscription[]): readonly Subscription[] {
  if (a === b || b.every((subscription) => a.includes(subscription))) return a;
  return [...a, ...b.filter((subscription) => !a.includes(subscription))];
}
