import type { Subscriber } from '../../channels/subscriber.js';
import { comparePositions, type Position } from '../model/position.js';
import type { RecipientGroup, SubscriptionTarget, TableViewer } from '../model/recipient-group.js';
import type { Viewer } from '../model/viewer.js';
import type { Undecided, ViewerParameters } from '../visibility/authorizer.js';
import type { Compiled, ListEntry } from '../visibility/compiling/compiled-expression.js';
import { type Test, testOf } from '../visibility/compiling/predicate.js';
import type { TypedRow } from '../visibility/compiling/typed-row.js';
import { changeList, emptyList, type ValueList } from '../visibility/compiling/value-list.js';
import { ViewerIndex } from '../visibility/compiling/viewer-index.js';
import { type DecodedChange, NO_ROW, type TableBatch } from './table-batch.js';

/**
 * Evaluates the parameters of a role's policies for viewers, with the effects of the transactions `xids`; undefined for a
 * viewer whose policies PostgreSQL must evaluate. The parameters of a viewer can be undecided at a deadline.
 */
export type EvaluateParameters = (
  viewers: readonly Viewer[],
  xids: readonly number[],
) => Promise<readonly (ViewerParameters | Undecided | undefined)[]>;

/**
 * A list in a policy that is read from another table, and kept up to date by the changes of that table in the
 * WAL.
 */
interface MembershipList {
  /** The table that the list is read from. */
  readonly oid: number;
  /** Finds the viewers whose list a row of the table affects; undefined: every viewer is affected. */
  readonly index: ViewerIndex<TableViewer> | undefined;
  /** How a row changes the list; undefined: the list is read again after any change. */
  readonly entry: (ListEntry & { readonly test: Test }) | undefined;
  /** The last change of the table that was applied. */
  appliedUpTo: Position | undefined;
}

/** The viewers of one role, indexed by the parameters of its compiled policies. */
interface IndexedViewers {
  readonly policies: Compiled;
  /** Finds the viewers that see a row. */
  readonly index: ViewerIndex<TableViewer>;
  /** Viewers whose parameters have not been evaluated yet, or have been invalidated. */
  readonly pending: Set<TableViewer>;
  /** Pending viewers whose parameters were not evaluated before the last deadline. */
  undecided: ReadonlyMap<TableViewer, Undecided>;
  /** Viewers whose policies PostgreSQL evaluates. */
  readonly inPostgres: Set<TableViewer>;
  /** The parameters of the viewers in the index. */
  readonly known: Map<TableViewer, ViewerParameters>;
  readonly memberships: readonly MembershipList[];
  /**
   * How often lists were changed or invalidated: parameters that were read across such a moment are
   * discarded.
   */
  invalidations: number;
  /**
   * The last transactions that changed a table of a membership list. Lists that are read from now on must have their
   * effects, since their changes are not applied again.
   */
  readonly appliedXids: Set<number>;
}

/** More transactions than are committed at any time without being visible to others yet. */
const MAX_APPLIED_XIDS = 1_000;
const NO_GROUPS: readonly RecipientGroup[] = [];

/** The recipients of one table that have one database role. */
export class RoleRecipients {
  /** By the viewer's key. */
  readonly viewers = new Map<string, TableViewer>();
  /** The groups without an owner, by the channel's name. */
  readonly sharedGroups = new Map<string, Set<RecipientGroup>>();
  /** The groups of connections with personal subscriptions, by the channel's name. */
  readonly personalGroups = new Map<string, Set<RecipientGroup>>();
  readonly groupByOwner = new Map<Subscriber, RecipientGroup>();
  #indexedViewers: IndexedViewers | undefined;

  add(group: RecipientGroup): void {
    const { viewer, channel, owner } = group;
    let tableViewer = this.viewers.get(viewer.key);
    if (tableViewer === undefined) {
      tableViewer = { viewer, groups: new Set() };
      this.viewers.set(viewer.key, tableViewer);
      this.#indexedViewers?.pending.add(tableViewer);
    }
    tableViewer.groups.add(group);
    const channels = owner === undefined ? this.sharedGroups : this.personalGroups;
    const others = channels.get(channel.name);
    if (others === undefined) channels.set(channel.name, new Set([group]));
    else others.add(group);
    if (owner !== undefined) this.groupByOwner.set(owner, group);
  }

  remove(group: RecipientGroup): void {
    const { viewer, channel, owner } = group;
    const channels = owner === undefined ? this.sharedGroups : this.personalGroups;
    const others = channels.get(channel.name);
    others?.delete(group);
    if (others?.size === 0) channels.delete(channel.name);
    if (owner !== undefined) this.groupByOwner.delete(owner);
    const tableViewer = this.viewers.get(viewer.key);
    tableViewer?.groups.delete(group);
    if (tableViewer === undefined || tableViewer.groups.size > 0) return;
    this.viewers.delete(viewer.key);
    this.#removeFromIndexes(tableViewer);
    this.#indexedViewers?.pending.delete(tableViewer);
  }

  /** Applies the changes of a table to the membership lists that are read from it. */
  tableChanged(oid: number, tableBatch: TableBatch): void {
    const indexed = this.#indexedViewers;
    if (indexed === undefined) return;
    for (const list of indexed.memberships) {
      if (list.oid !== oid) continue;
      // Parameters that are being read at this moment may be older than these changes.
      indexed.invalidations += 1;
      addXids(indexed.appliedXids, tableBatch);
      if (list.entry !== undefined) this.#applyChanges(indexed, list, list.entry, tableBatch);
      else this.#invalidateAffected(list, tableBatch, tableBatch.changes);
    }
  }

  /** Whether any membership list is kept up to date by the changes of the table. */
  tracksMemberships(oid: number): boolean {
    return (
      this.#indexedViewers?.memberships.some((list) => list.oid === oid && list.entry !== undefined) === true
    );
  }

  /** Invalidates all membership lists, which may have changed without a change in the stream. */
  invalidateMemberships(): void {
    if (this.#indexedViewers === undefined || this.#indexedViewers.memberships.length === 0) return;
    this.#indexedViewers.invalidations += 1;
    for (const list of this.#indexedViewers.memberships) list.appliedUpTo = undefined;
    for (const tableViewer of this.viewers.values()) this.#invalidate(tableViewer);
  }

  /** Applies changes to a list, for the viewers whose list was read before them. */
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
      // A batch whose routing failed is routed again: some of its changes have been applied already.
      if (list.appliedUpTo !== undefined && comparePositions(position, list.appliedUpTo) <= 0) continue;
      list.appliedUpTo = position;
      const isUnknown = streamed.kind !== 'truncate' && streamed.kind !== 'insert' && oldRow === NO_ROW;
      if (isUnknown || ![oldRow, newRow].every((row) => row === NO_ROW || tableBatch.isComplete(row))) {
        this.#invalidateAffected(list, tableBatch, [change]);
        continue;
      }
      if (streamed.kind === 'truncate') this.#applyTruncate(indexed, entry, transaction.xid);
      if (oldRow !== NO_ROW)
        this.#applyRow(indexed, list, entry, transaction.xid, tableBatch.typedRow(oldRow), -1);
      if (newRow !== NO_ROW)
        this.#applyRow(indexed, list, entry, transaction.xid, tableBatch.typedRow(newRow), 1);
    }
  }

  #applyTruncate(indexed: IndexedViewers, entry: ListEntry, xid: number): void {
    for (const [tableViewer, parameters] of indexed.known)
      if (!parameters.asOf.sees(xid))
        this.#updateList(indexed, tableViewer, parameters, () => emptyList(listAt(parameters, entry)));
  }

  /** Adds a row's value to the lists that have the row (`delta` 1), or removes it (-1). */
  #applyRow(
    indexed: IndexedViewers,
    list: MembershipList,
    entry: NonNullable<MembershipList['entry']>,
    xid: number,
    row: TypedRow,
    delta: 1 | -1,
  ): void {
    const undecided = new Set<TableViewer>();
    const onUndecided = (tableViewer: TableViewer) => void undecided.add(tableViewer);
    for (const tableViewer of list.index?.find(row, onUndecided) ?? indexed.known.keys()) {
      const parameters = indexed.known.get(tableViewer);
      if (parameters === undefined || parameters.asOf.sees(xid)) continue;
      const isInList = entry.test(row, parameters.parameters);
      if (isInList === undefined) undecided.add(tableViewer);
      if (isInList !== true) continue;
      const value = row.value(entry.columnIndex, entry.family);
      this.#updateList(indexed, tableViewer, parameters, () =>
        changeList(listAt(parameters, entry), value, delta),
      );
    }
    for (const tableViewer of undecided) this.#invalidate(tableViewer);
  }

  /** Changes a list of a viewer. The index finds viewers by their lists: the viewer leaves it meanwhile. */
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

  /** Invalidates the lists of the viewers that changes affect. */
  #invalidateAffected(list: MembershipList, tableBatch: TableBatch, changes: readonly DecodedChange[]): void {
    for (const tableViewer of affectedViewers(list, tableBatch, changes) ?? this.viewers.values())
      this.#invalidate(tableViewer);
  }

  /** Has the viewer's parameters evaluated again before the next change. */
  #invalidate(tableViewer: TableViewer): void {
    this.#removeFromIndexes(tableViewer);
    this.#indexedViewers?.pending.add(tableViewer);
  }

  #removeFromIndexes(tableViewer: TableViewer): void {
    this.#indexedViewers?.index.remove(tableViewer);
    this.#indexedViewers?.known.delete(tableViewer);
    this.#indexedViewers?.inPostgres.delete(tableViewer);
    for (const { index } of this.#indexedViewers?.memberships ?? []) index?.remove(tableViewer);
  }

  /** Whether a subscription target has any recipient group. */
  hasAny(target: SubscriptionTarget): boolean {
    if (typeof target === 'string') return this.sharedGroups.has(target) || this.personalGroups.has(target);
    return this.groupByOwner.has(target);
  }

  /** Returns those recipient groups of a subscription target that have subscriptions of their own. */
  ownedGroupsOf(target: SubscriptionTarget): Iterable<RecipientGroup> {
    if (this.groupByOwner.size === 0) return NO_GROUPS;
    if (typeof target === 'string') return this.personalGroups.get(target) ?? NO_GROUPS;
    const group = this.groupByOwner.get(target);
    return group === undefined ? NO_GROUPS : [group];
  }

  /** Returns the recipient groups of a subscription target. */
  groupsOf(target: SubscriptionTarget): Iterable<RecipientGroup> {
    if (typeof target === 'string')
      return [...(this.sharedGroups.get(target) ?? []), ...(this.personalGroups.get(target) ?? [])];
    const group = this.groupByOwner.get(target);
    return group === undefined ? [] : [group];
  }

  /**
   * Returns the index of all viewers for these policies. It is rebuilt if the policies have changed;
   * otherwise only pending viewers are added.
   */
  async indexViewers(policies: Compiled, evaluateParameters: EvaluateParameters): Promise<IndexedViewers> {
    const indexed = this.#indexOf(policies);
    indexed.undecided = await this.#add(indexed, [...indexed.pending], evaluateParameters);
    return indexed;
  }

  /** Adds up to `count` pending viewers to the index ahead of the next change; false: none was added. */
  async prepare(policies: Compiled, evaluateParameters: EvaluateParameters, count: number): Promise<boolean> {
    const indexed = this.#indexOf(policies);
    const added = [...indexed.pending].slice(0, count);
    const undecided = await this.#add(indexed, added, evaluateParameters);
    return added.length > undecided.size;
  }

  #indexOf(policies: Compiled): IndexedViewers {
    if (this.#indexedViewers?.policies === policies) return this.#indexedViewers;
    const { predicate, memberships } = policies.compiled;
    this.#indexedViewers = {
      policies,
      index: new ViewerIndex<TableViewer>(predicate),
      pending: new Set(this.viewers.values()),
      undecided: NONE_UNDECIDED,
      inPostgres: new Set(),
      known: new Map(),
      memberships: memberships.map(({ oid, concerns, entry }) => ({
        oid,
        index: concerns === undefined ? undefined : new ViewerIndex<TableViewer>(concerns),
        entry: entry === undefined ? undefined : { ...entry, test: testOf(entry.predicate) },
        appliedUpTo: undefined,
      })),
      invalidations: 0,
      appliedXids: new Set(),
    };
    return this.#indexedViewers;
  }

  async #add(
    indexed: IndexedViewers,
    added: readonly TableViewer[],
    evaluateParameters: EvaluateParameters,
  ): Promise<ReadonlyMap<TableViewer, Undecided>> {
    if (added.length === 0) return NONE_UNDECIDED;
    const { invalidations, appliedXids } = indexed;
    const results = await evaluateParameters(
      added.map(({ viewer }) => viewer),
      [...appliedXids],
    );
    const undecided = new Map<TableViewer, Undecided>();
    for (const [n, tableViewer] of added.entries()) {
      const why = results[n];
      if (typeof why === 'string') undecided.set(tableViewer, why);
    }
    // A list was changed or invalidated while parameters were read: they may be older than that.
    if (indexed.invalidations !== invalidations) return undecided;
    // Later reads see at least as much.
    appliedXids.clear();
    for (const [n, tableViewer] of added.entries()) {
      const parameters = results[n];
      if (typeof parameters === 'string') continue;
      // The viewer has left meanwhile, or a concurrent call has added it.
      if (!indexed.pending.delete(tableViewer)) continue;
      if (parameters === undefined) {
        indexed.inPostgres.add(tableViewer);
        continue;
      }
      indexed.known.set(tableViewer, parameters);
      for (const index of [indexed.index, ...indexed.memberships.map((list) => list.index)])
        index?.add(tableViewer, parameters.parameters);
    }
    return undecided;
  }
}

const NONE_UNDECIDED: ReadonlyMap<TableViewer, Undecided> = new Map();

/** Returns the viewers that one of the changes affects; undefined: all of them. */
function affectedViewers(
  { index }: MembershipList,
  tableBatch: TableBatch,
  changes: readonly DecodedChange[],
): Set<TableViewer> | undefined {
  if (index === undefined) return undefined;
  const found = new Set<TableViewer>();
  for (const { streamed, oldRow, newRow } of changes) {
    // The rows of a TRUNCATE are unknown, and so is an old version that the WAL does not have.
    if (streamed.kind === 'truncate' || (streamed.kind !== 'insert' && oldRow === NO_ROW)) return undefined;
    for (const row of [oldRow, newRow]) {
      if (row === NO_ROW) continue;
      if (!index.columns.every((columnIndex) => tableBatch.hasColumns(row, [columnIndex]))) return undefined;
      const add = (tableViewer: TableViewer) => void found.add(tableViewer);
      for (const tableViewer of index.find(tableBatch.typedRow(row), add)) add(tableViewer);
    }
  }
  return found;
}

/** Adds the transactions of a batch, and drops the oldest over the limit. */
function addXids(xids: Set<number>, { changes }: TableBatch): void {
  for (const { streamed } of changes) xids.add(streamed.transaction.xid);
  for (const oldest of xids) {
    if (xids.size <= MAX_APPLIED_XIDS) break;
    xids.delete(oldest);
  }
}

function listAt({ parameters }: ViewerParameters, { parameter }: ListEntry): ValueList {
  return parameters[parameter] as ValueList;
}
