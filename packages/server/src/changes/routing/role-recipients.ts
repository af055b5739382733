import type { Subscriber } from '../../channels/subscriber.js';
import { comparePositions, type Position } from '../model/position.js';
import type { RecipientGroup, SubscriptionTarget, TableViewer } from '../model/recipient-group.js';
import type { Viewer } from '../model/viewer.js';
import type { ViewerParameters } from '../visibility/authorizer.js';
import type { Compiled, ListEntry } from '../visibility/compiling/compiled-expression.js';
import {
  changeList,
  emptyList,
  type Test,
  testOf,
  type ValueList,
} from '../visibility/compiling/predicate.js';
import { ViewerIndex } from '../visibility/compiling/viewer-index.js';
import { type DecodedChange, NO_ROW, type TableBatch } from './table-batch.js';

/** What a policy's slots hold for contexts; undefined for one that PostgreSQL has to judge. */
export type EvaluateParameters = (
  viewers: readonly Viewer[],
) => Promise<readonly (ViewerParameters | undefined)[]>;

/** A list in a policy that is read from another table, of which it is kept as the log tells of that. */
interface MembershipList {
  readonly oid: number;
  /** Whom a row of the table concerns; undefined: everybody. */
  readonly index: ViewerIndex<TableViewer> | undefined;
  /** Missing: where such a row changes, the list is read anew. */
  readonly entry: (ListEntry & { readonly test: Test }) | undefined;
  /** The last change of the table that the lists are up to. */
  appliedUpTo: Position | undefined;
}

/** Whom an index of compiled policies finds, and who is beyond it. */
interface IndexedViewers {
  readonly policies: Compiled;
  readonly index: ViewerIndex<TableViewer>;
  /** What their context's settings come to is not known yet. */
  readonly pending: Set<TableViewer>;
  /** PostgreSQL judges them. */
  readonly inPostgres: Set<TableViewer>;
  /** What is known of those in the index. */
  readonly known: Map<TableViewer, ViewerParameters>;
  readonly memberships: readonly MembershipList[];
  /** How often something became doubtful that was read from tables. */
  invalidations: number;
}

/** Who may hear of one table as one database role. */
export class RoleRecipients {
  /** By the context's key. */
  readonly viewers = new Map<string, TableViewer>();
  /** By the channel's name: those that its members share, and those of members with subscriptions of their own. */
  readonly sharedGroups = new Map<string, Set<RecipientGroup>>();
  readonly ownGroups = new Map<string, Set<RecipientGroup>>();
  readonly groupByOwner = new Map<Subscriber, RecipientGroup>();
  #indexed: IndexedViewers | undefined;

  add(group: RecipientGroup): void {
    const { viewer, channel, owner } = group;
    let tableViewer = this.viewers.get(viewer.key);
    if (tableViewer === undefined) {
      tableViewer = { viewer, groups: new Set() };
      this.viewers.set(viewer.key, tableViewer);
      this.#indexed?.pending.add(tableViewer);
    }
    tableViewer.groups.add(group);
    const channels = owner === undefined ? this.sharedGroups : this.ownGroups;
    const others = channels.get(channel.name);
    if (others === undefined) channels.set(channel.name, new Set([group]));
    else others.add(group);
    if (owner !== undefined) this.groupByOwner.set(owner, group);
  }

  remove(group: RecipientGroup): void {
    const { viewer, channel, owner } = group;
    const channels = owner === undefined ? this.sharedGroups : this.ownGroups;
    const others = channels.get(channel.name);
    others?.delete(group);
    if (others?.size === 0) channels.delete(channel.name);
    if (owner !== undefined) this.groupByOwner.delete(owner);
    const tableViewer = this.viewers.get(viewer.key);
    tableViewer?.groups.delete(group);
    if (tableViewer === undefined || tableViewer.groups.size > 0) return;
    this.viewers.delete(viewer.key);
    this.#removeFromIndexes(tableViewer);
    this.#indexed?.pending.delete(tableViewer);
  }

  /** Rows of a table have changed that memberships may be read from: the lists of whom they concern are others. */
  tableChanged(oid: number, tableBatch: TableBatch): void {
    const indexed = this.#indexed;
    if (indexed === undefined) return;
    for (const list of indexed.memberships) {
      if (list.oid !== oid) continue;
      // What is being read meanwhile may be of before.
      indexed.invalidations += 1;
      if (list.entry !== undefined) this.#applyChanges(indexed, list, list.entry, tableBatch);
      else this.#invalidateAffected(list, tableBatch, tableBatch.changes);
    }
  }

  /** Whether lists are kept up to date by the changes of a table, one after the other. */
  tracksMemberships(oid: number): boolean {
    return this.#indexed?.memberships.some((list) => list.oid === oid && list.entry !== undefined) === true;
  }

  /** Whether memberships are read from a table. */
  readsMemberships(oid: number): boolean {
    return this.#indexed?.memberships.some((list) => list.oid === oid) === true;
  }

  /** Memberships may have changed without a word. */
  invalidateMemberships(): void {
    if (this.#indexed === undefined || this.#indexed.memberships.length === 0) return;
    this.#indexed.invalidations += 1;
    for (const list of this.#indexed.memberships) list.appliedUpTo = undefined;
    for (const tableViewer of this.viewers.values()) this.#invalidate(tableViewer);
  }

  /** Takes over what changes did to a list, for those who read it before that. */
  #applyChanges(
    indexed: IndexedViewers,
    list: MembershipList,
    entry: NonNullable<MembershipList['entry']>,
    tableBatch: TableBatch,
  ): void {
    for (const change of tableBatch.changes) {
      const { streamed, oldRow, newRow } = change;
      const { transaction, index } = streamed;
      const position = { commitLsn: transaction.commitLsn, index };
      // A slice that could not be judged comes again.
      if (list.appliedUpTo !== undefined && comparePositions(position, list.appliedUpTo) <= 0) continue;
      list.appliedUpTo = position;
      const isUnknown = streamed.kind !== 'truncate' && streamed.kind !== 'insert' && oldRow === NO_ROW;
      if (isUnknown || ![oldRow, newRow].every((row) => row === NO_ROW || tableBatch.isWhole(row))) {
        this.#invalidateAffected(list, tableBatch, [change]);
        continue;
      }
      if (streamed.kind === 'truncate') {
        for (const [tableViewer, parameters] of indexed.known)
          if (!parameters.asOf.sees(transaction.xid))
            this.#updateList(indexed, tableViewer, parameters, () => emptyList(listAt(parameters, entry)));
        continue;
      }
      for (const [row, by] of [
        [oldRow, -1],
        [newRow, 1],
      ] as const) {
        if (row === NO_ROW) continue;
        const typedRow = tableBatch.typedRow(row);
        for (const tableViewer of list.index?.find(typedRow) ?? indexed.known.keys()) {
          const parameters = indexed.known.get(tableViewer);
          if (
            parameters === undefined ||
            parameters.asOf.sees(transaction.xid) ||
            entry.test(typedRow, parameters.parameters) !== true
          )
            continue;
          const value = typedRow.value(entry.columnIndex, entry.family);
          this.#updateList(indexed, tableViewer, parameters, () =>
            changeList(listAt(parameters, entry), value, by),
          );
        }
      }
    }
  }

  /** The index finds a listener by its lists: it is not there while one becomes another. */
  #updateList(
    { index }: IndexedViewers,
    tableViewer: TableViewer,
    { parameters }: ViewerParameters,
    change: () => void,
  ): void {
    index.remove(tableViewer);
    change();
    index.add(tableViewer, parameters);
  }

  /** Reads the lists anew of whom changes concern. */
  #invalidateAffected(list: MembershipList, tableBatch: TableBatch, changes: readonly DecodedChange[]): void {
    for (const tableViewer of affectedViewers(list, tableBatch, changes) ?? this.viewers.values())
      this.#invalidate(tableViewer);
  }

  #invalidate(tableViewer: TableViewer): void {
    this.#removeFromIndexes(tableViewer);
    this.#indexed?.pending.add(tableViewer);
  }

  #removeFromIndexes(tableViewer: TableViewer): void {
    this.#indexed?.index.remove(tableViewer);
    this.#indexed?.known.delete(tableViewer);
    this.#indexed?.inPostgres.delete(tableViewer);
    for (const { index } of this.#indexed?.memberships ?? []) index?.remove(tableViewer);
  }

  /** Whether there are any seats that a place is about. */
  hasAny(target: SubscriptionTarget): boolean {
    if (typeof target === 'string') return this.sharedGroups.has(target) || this.ownGroups.has(target);
    return this.groupByOwner.has(target);
  }

  /** The seats that a place is about: of a channel by its name, or of a connection. */
  groupsOf(target: SubscriptionTarget): Iterable<RecipientGroup> {
    if (typeof target === 'string')
      return [...(this.sharedGroups.get(target) ?? []), ...(this.ownGroups.get(target) ?? [])];
    const group = this.groupByOwner.get(target);
    return group === undefined ? [] : [group];
  }

  /** The index of everybody for these policies: made anew where they are others, else only who has come since is added. */
  async indexed(policies: Compiled, evaluateParameters: EvaluateParameters): Promise<IndexedViewers> {
    const indexed = this.#indexOf(policies);
    await this.#add(indexed, [...indexed.pending], evaluateParameters);
    return indexed;
  }

  /** As `indexed` for some of those who have come since, ahead of the next change; false: there are none. */
  async prepare(policies: Compiled, evaluateParameters: EvaluateParameters, count: number): Promise<boolean> {
    const indexed = this.#indexOf(policies);
    const added = [...indexed.pending].slice(0, count);
    await this.#add(indexed, added, evaluateParameters);
    return added.length > 0;
  }

  #indexOf(policies: Compiled): IndexedViewers {
    if (this.#indexed?.policies === policies) return this.#indexed;
    const { predicate, memberships } = policies.compiled;
    this.#indexed = {
      policies,
      index: new ViewerIndex<TableViewer>(predicate),
      pending: new Set(this.viewers.values()),
      inPostgres: new Set(),
      known: new Map(),
      memberships: memberships.map(({ oid, concerns, entry }) => ({
        oid,
        index: concerns === undefined ? undefined : new ViewerIndex<TableViewer>(concerns),
        entry: entry === undefined ? undefined : { ...entry, test: testOf(entry.predicate) },
        appliedUpTo: undefined,
      })),
      invalidations: 0,
    };
    return this.#indexed;
  }

  async #add(
    indexed: IndexedViewers,
    added: readonly TableViewer[],
    evaluateParameters: EvaluateParameters,
  ): Promise<void> {
    if (added.length === 0) return;
    const { invalidations } = indexed;
    const results = await evaluateParameters(added.map(({ viewer }) => viewer));
    // What was read may be of before what is in doubt since.
    if (indexed.invalidations !== invalidations) return;
    for (const [n, tableViewer] of added.entries()) {
      // It has left meanwhile, or was added beside us.
      if (!indexed.pending.delete(tableViewer)) continue;
      const parameters = results[n];
      if (parameters === undefined) {
        indexed.inPostgres.add(tableViewer);
        continue;
      }
      indexed.known.set(tableViewer, parameters);
      for (const index of [indexed.index, ...indexed.memberships.map((list) => list.index)])
        index?.add(tableViewer, parameters.parameters);
    }
  }
}

/** Whom one of the changes concerns; undefined: everybody. */
function affectedViewers(
  { index }: MembershipList,
  tableBatch: TableBatch,
  changes: readonly DecodedChange[],
): Set<TableViewer> | undefined {
  if (index === undefined) return undefined;
  const found = new Set<TableViewer>();
  for (const { streamed, oldRow, newRow } of changes) {
    // Nothing is known of the rows of a TRUNCATE, and of an old version that the log does not have.
    if (streamed.kind === 'truncate' || (streamed.kind !== 'insert' && oldRow === NO_ROW)) return undefined;
    for (const row of [oldRow, newRow]) {
      if (row === NO_ROW) continue;
      if (!index.columns.every((target) => tableBatch.knows(row, [target]))) return undefined;
      for (const tableViewer of index.find(tableBatch.typedRow(row))) found.add(tableViewer);
    }
  }
  return found;
}

function listAt({ parameters }: ViewerParameters, { parameter }: ListEntry): ValueList {
  return parameters[parameter] as ValueList;
}
