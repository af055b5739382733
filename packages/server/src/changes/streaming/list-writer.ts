import type { Verdict } from '../authorizer.js';
import type { Subscription } from '../subscriptions/subscription.js';
import type { RoleRights } from '../table-facts.js';
import type { Candidate } from './candidates.js';
import type { ChangeBatch, DecodedChange } from './decoded-change.js';
import type { Frames } from './frames.js';
import type { FrameList, Group } from './groups.js';
import { type IsVisible, outcomeOf } from './outcome.js';

/** The members of one channel and role, and the changes that its subscriptions want. */
export interface RolePart {
  readonly groups: readonly Group[];
  readonly candidates: readonly Candidate[];
}

/** For each subscription the changes that at least one member gets. */
export type Delivered = Map<Subscription, Set<DecodedChange>>;

/** Makes the lists of messages that groups get of one batch. */
export class ListWriter {
  readonly #batch: ChangeBatch;
  readonly #frames: Frames;
  readonly #delivered: Delivered;

  constructor(batch: ChangeBatch, frames: Frames, delivered: Delivered) {
    this.#batch = batch;
    this.#frames = frames;
    this.#delivered = delivered;
  }

  /** Row level security does not apply: one list for all groups. */
  giveAll({ groups, candidates }: RolePart, rights: RoleRights): void {
    const list = this.#list(candidates, rights, () => true);
    if (list.length > 0) for (const group of groups) group.lists.push(list);
  }

  /** A list for each group, of what its context may see. Answers how many changes were refused to a group. */
  giveJudged(
    { groups, candidates }: RolePart,
    rights: RoleRights,
    verdicts: ReadonlyMap<string, Verdict>,
    isKnown: (row: number) => boolean,
  ): number {
    const byRow = this.#candidatesByRow(candidates);
    const truncates = candidates.filter(({ change }) => change.streamed.kind === 'truncate');
    let refused = 0;
    for (const group of groups) {
      const verdict = verdicts.get(group.context.key);
      const isVisible: IsVisible = (row) => (isKnown(row) ? verdict?.visible.has(row) === true : undefined);
      // What a group sees is mostly little of what there is: only that is looked at.
      const seen = new Set(truncates);
      for (const row of verdict?.visible ?? []) {
        const candidate = byRow.get(row);
        if (candidate !== undefined) seen.add(candidate);
      }
      const ordered = [...seen].sort((a, b) => a.change.position - b.change.position);
      const list = this.#list(ordered, rights, isVisible);
      refused += candidates.length - list.length;
      if (list.length > 0) group.lists.push(list);
      this.#noteFailures(group, verdict, byRow);
    }
    return refused;
  }

  #list(candidates: readonly Candidate[], rights: RoleRights, isVisible: IsVisible): FrameList {
    const list: { position: number; frame: Buffer }[] = [];
    for (const candidate of candidates) {
      const outcome = outcomeOf(candidate, isVisible);
      if (outcome === undefined) continue;
      const { change } = candidate;
      list.push({ position: change.position, frame: this.#frames.frame(change, outcome, rights) });
      for (const subscription of outcome.subscriptions) {
        const changes = this.#delivered.get(subscription);
        if (changes === undefined) this.#delivered.set(subscription, new Set([change]));
        else changes.add(change);
      }
    }
    return list;
  }

  #candidatesByRow(candidates: readonly Candidate[]): ReadonlyMap<number, Candidate> {
    const byRow = new Map<number, Candidate>();
    for (const candidate of candidates) {
      byRow.set(candidate.change.oldRow, candidate);
      byRow.set(candidate.change.newRow, candidate);
    }
    return byRow;
  }

  #noteFailures(group: Group, verdict: Verdict | undefined, byRow: ReadonlyMap<number, Candidate>): void {
    for (const row of verdict?.failed ?? []) {
      const candidate = byRow.get(row);
      if (candidate === undefined) continue;
      for (const subscription of [...candidate.oldWanted, ...candidate.newWanted]) {
        group.failed.set(subscription, this.#batch.view.facts);
      }
    }
  }
}
