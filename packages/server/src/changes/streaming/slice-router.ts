import type { Channel } from '../../channels/channel.js';
import type { WalRelation } from '../../postgres/change-source.js';
import type { Authorizer, Verdict } from '../authorizer.js';
import type { PersonalSubscriptions } from '../personal/personal-subscriptions.js';
import type { SqlMessages } from '../sql-messages.js';
import type { ChangeOutcomes } from '../subscriptions/change-counts.js';
import type { Subscription } from '../subscriptions/subscription.js';
import type { RoleRights, TableFacts } from '../table-facts.js';
import type { ValueFormats } from '../values/value-formats.js';
import type { ChangeEncoder } from './change-encoder.js';
import { ChangeBatch } from './decoded-change.js';
import { Frames } from './frames.js';
import { type Group, Groups } from './groups.js';
import { type Delivered, ListWriter } from './list-writer.js';
import type { StreamedChange, StreamedMessage } from './packed-changes.js';
import type { Fold, RoleSeats } from './role-seats.js';
import type { Place, Seat } from './seat.js';
import type { Seats, TableSeats } from './seats.js';
import { Sight } from './sight.js';
import { SliceOutcomes, type Standing } from './slice-outcomes.js';
import { type Entry, TableSubscriptions } from './table-subscriptions.js';
import type { TableView } from './table-view.js';
import type { TableViews } from './table-views.js';
import { isOffered, Wants } from './wants.js';

/** Counts what routing does; read when metrics are scraped. */
interface RoutingTally {
  changesJudged: number;
  changesRefused: number;
  changeErrors: number;
}

export interface SliceRouterParts {
  readonly authorizer: Authorizer;
  readonly views: TableViews;
  readonly formats: ValueFormats;
  readonly encoder: ChangeEncoder;
  readonly personal: Pick<PersonalSubscriptions, 'byTable' | 'version'>;
  readonly messages: Pick<SqlMessages, 'read' | 'encode'>;
  readonly subscriptions: { byTable(oid: number): readonly Subscription[] };
  /** The channel, or undefined where it is no more. */
  readonly channel: (name: string) => Channel | undefined;
  readonly tally: RoutingTally;
}

/** What becomes of a slice. */
export interface Routed {
  readonly groups: Iterable<Group>;
  readonly delivered: Delivered;
  readonly outcomes: ChangeOutcomes;
}

/** So many that a slice that comes meanwhile hardly waits. */
const PREPARED_AT_ONCE = 100;

/** What is gathered of a slice. */
interface Gathering {
  readonly groups: Groups;
  readonly delivered: Delivered;
  readonly outcomes: SliceOutcomes;
}

/** The subscriptions of a table as they were made ready, and what they were made of. */
interface Prepared {
  readonly facts: TableFacts;
  readonly shared: readonly Subscription[];
  /** Of the subscriptions of connections. */
  readonly version: number;
  readonly subscriptions: TableSubscriptions;
}

/** Decides, for one slice of changes, who gets what: subscription, condition, rights and policies. */
export class SliceRouter {
  readonly #parts: SliceRouterParts;
  readonly #prepared = new Map<number, Prepared>();

  constructor(parts: SliceRouterParts) {
    this.#parts = parts;
  }

  /** What each of these seats gets. Throws StaleFacts when the catalog has changed meanwhile. */
  async route(epoch: string, changes: readonly StreamedChange[], seats: Seats): Promise<Routed> {
    const { authorizer, encoder } = this.#parts;
    const into: Gathering = { groups: new Groups(), delivered: new Map(), outcomes: new SliceOutcomes() };
    const { groups, delivered, outcomes } = into;
    const segments = await this.#segments(changes, seats);
    const batches = segments.flat();
    const isHeard = ({ view: { facts } }: ChangeBatch) => seats.ofTable(facts.oid).roles.size > 0;
    const heard = batches.filter(isHeard);
    if (heard.length > 0 || batches.some(({ view }) => seats.reads(view.facts.oid))) {
      const tables = new Set(heard.map(({ view }) => view.facts));
      await authorizer.verify([...tables], xidsOf(changes));
    }
    const writers = new Map<TableView, ListWriter>();
    for (const segment of segments) {
      for (const batch of segment) seats.changed(batch);
      for (const batch of segment.filter(isHeard)) {
        const { view } = batch;
        const writer = writers.get(view) ?? new ListWriter(new Frames(epoch, view, encoder), delivered);
        writers.set(view, writer);
        await this.#routeBatch(batch, seats.ofTable(view.facts.oid), writer, into);
      }
    }
    for (const writer of writers.values()) writer.finish(groups);
    for (const [position, change] of changes.entries())
      if (change.kind === 'message') this.#routeMessage(epoch, change, position, seats, groups);
    return { groups: groups.all(), delivered, outcomes: outcomes.finish(delivered) };
  }

  /**
   * Has some of those who may hear of a table looked up ahead of its next change, which then need not wait for it.
   * False: there are none. Throws StaleFacts.
   */
  async prepare(oid: number, seats: Seats): Promise<boolean> {
    const { authorizer } = this.#parts;
    for (const [role, own] of seats.ofTable(oid).roles) {
      const facts = await authorizer.facts(oid);
      if (facts === undefined) return false;
      const { rows, judging } = await authorizer.rights(facts, role);
      if (rows !== 'judged' || !('compiled' in judging)) continue;
      const fold: Fold = (contexts) => authorizer.fold(facts, role, contexts);
      if (await own.prepare(judging, fold, PREPARED_AT_ONCE)) return true;
    }
    return false;
  }

  /** What was sent by SQL goes to all members of its channel. */
  #routeMessage(
    epoch: string,
    streamed: StreamedMessage,
    position: number,
    seats: Seats,
    groups: Groups,
  ): void {
    const { messages, channel: find } = this.#parts;
    const { transaction, index, bytes, start, end } = streamed;
    const message = messages.read(bytes.subarray(start, end), transaction.xid);
    const channel = message === undefined ? undefined : find(message.channel);
    if (message === undefined || channel === undefined) return;
    const { commitLsn, commitTime } = transaction;
    const frame = messages.encode(message, { epoch, position: { commitLsn, index }, commitTime });
    for (const seat of seats.ofChannel(channel)) groups.of(seat).lists.push([{ position, frame }]);
  }

  /**
   * The changes of a slice, decoded. Where a transaction changes who is a member of what, another segment begins: it
   * counts for what that commits, and for nothing before. Tables that are no more are left out.
   */
  async #segments(changes: readonly StreamedChange[], seats: Seats): Promise<ChangeBatch[][]> {
    const begins = new Set<bigint>();
    for (const change of changes)
      if (change.kind !== 'message' && seats.follows(change.relation.oid))
        begins.add(change.transaction.commitLsn);
    const segments: Map<WalRelation, ChangeBatch | undefined>[] = [new Map()];
    let last: bigint | undefined;
    for (const [position, change] of changes.entries()) {
      const { commitLsn } = change.transaction;
      if (commitLsn !== last && begins.has(commitLsn)) segments.push(new Map());
      last = commitLsn;
      if (change.kind === 'message') continue;
      const { relation } = change;
      const batches = segments.at(-1);
      if (batches?.has(relation) === false) {
        const view = await this.#parts.views.of(relation);
        batches.set(relation, view === undefined ? undefined : new ChangeBatch(view));
      }
      batches?.get(relation)?.add(change, position);
    }
    const known = segments.map((batches) => [...batches.values()].filter((batch) => batch !== undefined));
    this.#parts.formats.beginRows();
    for (const { view, changes: own } of known.flat()) {
      const rows = own.flatMap((change) => [change.old, change.new]);
      await this.#parts.formats.convert(view.relation, rows);
    }
    return known;
  }

  async #routeBatch(
    batch: ChangeBatch,
    listening: TableSeats,
    writer: ListWriter,
    into: Gathering,
  ): Promise<void> {
    const { authorizer, tally } = this.#parts;
    const { facts } = batch.view;
    const subscriptions = await this.#subscriptionsOf(facts);
    if (subscriptions.isEmpty) return;
    const answers = await this.#askConditions(batch, subscriptions, listening, into);
    const wantsOf = (columns: ReadonlySet<string>) => new Wants(batch, subscriptions, answers, columns);
    const all = wantsOf(new Set(facts.columns.map(({ name }) => name)));
    const asked: Asked[] = [];
    for (const [role, seats] of listening.roles) {
      const rights = await authorizer.rights(facts, role);
      const wants = facts.columns.every(({ name }) => rights.columns.has(name))
        ? all
        : wantsOf(rights.columns);
      asked.push({ seats, rights });
      if (!rights.canSelect || rights.rows === 'none')
        tally.changesRefused += batch.changes.filter((change) => wants.isWanted(change)).length;
      else if (rights.rows === 'all') giveAll(batch, subscriptions, wants, seats, rights, writer);
      else await this.#routeJudged(batch, wants, seats, rights, writer, into);
    }
    into.outcomes.add(batch, subscriptions, all, (entry) => standingOf(entry, asked));
  }

  /** The subscriptions to a table, of channels and of connections, ready to be held against rows. */
  async #subscriptionsOf(facts: TableFacts): Promise<TableSubscriptions> {
    const { authorizer, personal, subscriptions: registry } = this.#parts;
    const shared = registry.byTable(facts.oid);
    const { version } = personal;
    const known = this.#prepared.get(facts.oid);
    if (known?.facts === facts && known.shared === shared && known.version === version)
      return known.subscriptions;
    const all: [Place, Subscription][] = [];
    for (const subscription of shared)
      if (subscription.active) all.push([subscription.channelName, subscription]);
    for (const [owner, some] of personal.byTable(facts.oid))
      for (const subscription of some) all.push([owner, subscription]);
    const subscriptions =
      known?.facts === facts ? known.subscriptions : new TableSubscriptions(authorizer, facts);
    await subscriptions.update(all);
    this.#prepared.set(facts.oid, { facts, shared, version, subscriptions });
    return subscriptions;
  }

  /** What PostgreSQL says of the conditions that only it evaluates; whoever has one that fails is told. */
  async #askConditions(
    batch: ChangeBatch,
    subscriptions: TableSubscriptions,
    listening: TableSeats,
    { groups, outcomes }: Gathering,
  ): Promise<ReadonlyMap<string, Verdict>> {
    const { authorizer, tally } = this.#parts;
    const { asked } = subscriptions;
    const answers = new Map<string, Verdict>();
    if (asked.length === 0 || batch.rows.length === 0) return answers;
    const verdicts = await authorizer.conditions(batch.view.facts, batch.rows, asked);
    for (const [n, { sql, columns }] of asked.entries()) {
      const verdict = verdicts[n];
      if (verdict === undefined) throw new Error('a condition without a verdict');
      answers.set(sql, verdict);
      const required = batch.view.requirement(columns);
      const hasFailed = (row: number) =>
        verdict.failed.has(row) && required !== null && batch.knows(row, required);
      const failed = batch.changes.filter(({ oldRow, newRow }) => hasFailed(oldRow) || hasFailed(newRow));
      if (failed.length === 0) continue;
      tally.changeErrors += 1;
      for (const { place, subscription } of subscriptions.withCondition(sql)) {
        for (const change of failed)
          if (isOffered(subscription, change)) outcomes.conditionFailed(subscription, change);
        for (const seats of listening.roles.values())
          for (const seat of seats.at(place)) groups.of(seat).failed.set(subscription, batch.view.facts);
      }
    }
    return answers;
  }

  /** Gives everybody what the policies show them. */
  async #routeJudged(
    batch: ChangeBatch,
    wants: Wants,
    seats: RoleSeats,
    rights: RoleRights,
    writer: ListWriter,
    { groups, outcomes }: Gathering,
  ): Promise<void> {
    const { authorizer, tally } = this.#parts;
    const sight = await Sight.of(authorizer, batch, wants, seats, rights);
    for (const change of batch.changes) {
      let isRefused = true;
      for (const listener of sight.ofChange(change)) {
        const isVisible = (row: number) => sight.isVisible(listener, row);
        for (const seat of listener.seats) {
          const candidate = wants.of(change, seat);
          if (candidate !== undefined && writer.give(seat, candidate, rights, isVisible)) isRefused = false;
        }
      }
      if (isRefused && wants.isWanted(change)) tally.changesRefused += 1;
    }
    tally.changesJudged += sight.judged;
    for (const [listener, rows] of sight.failed) {
      tally.changeErrors += rows.size;
      for (const change of batch.changes) {
        if (!rows.has(change.oldRow) && !rows.has(change.newRow)) continue;
        for (const seat of listener.seats) {
          const candidate = wants.of(change, seat);
          for (const subscription of [...(candidate?.oldWanted ?? []), ...(candidate?.newWanted ?? [])]) {
            groups.of(seat).failed.set(subscription, batch.view.facts);
            outcomes.policyFailed(subscription, change);
          }
        }
      }
    }
  }
}

/** Those of one role who listen, and what they may. */
interface Asked {
  readonly seats: RoleSeats;
  readonly rights: RoleRights;
}

/** Why nobody gets what a subscription wants, if nobody does. */
function standingOf({ place, subscription }: Entry, asked: readonly Asked[]): Standing {
  const there = asked.filter(({ seats }) => seats.hasAny(place));
  if (there.length === 0) return 'unheard';
  const read = subscription.condition?.columns ?? [];
  const mayAsk = ({ rights }: Asked) => rights.canSelect && read.every((name) => rights.columns.has(name));
  return there.some(mayAsk) ? 'policy' : 'privilege';
}

function xidsOf(changes: readonly StreamedChange[]): number[] {
  return [...new Set(changes.map(({ transaction }) => transaction.xid))];
}

/** Row level security does not apply: what a channel wants all its members get, in one list. */
function giveAll(
  batch: ChangeBatch,
  subscriptions: TableSubscriptions,
  wants: Wants,
  seats: RoleSeats,
  rights: RoleRights,
  writer: ListWriter,
): void {
  for (const change of batch.changes) {
    const places = new Set<Place>(
      change.streamed.kind === 'truncate' ? subscriptions.places : subscriptions.withAlways,
    );
    for (const place of wants.conditionalPlaces(change)) places.add(place);
    const alone = new Set<Seat>();
    for (const place of places) {
      const common = typeof place === 'string' ? seats.common.get(place) : undefined;
      const [first] = common ?? [];
      const candidate = first === undefined ? undefined : wants.of(change, first);
      if (common !== undefined && candidate !== undefined) writer.giveAll(common, candidate, rights);
      for (const seat of seats.at(place)) if (seat.owner !== undefined) alone.add(seat);
    }
    // What is wanted by the channel and by the member itself makes one message.
    for (const seat of alone) {
      const candidate = wants.of(change, seat);
      if (candidate !== undefined) writer.give(seat, candidate, rights, () => true);
    }
  }
}
