import type { Authorizer, JudgeRequest, Verdict } from '../authorizer.js';
import type { RoleRights, TableFacts } from '../table-facts.js';
import { type ChangeBatch, type DecodedChange, NO_ROW } from './decoded-change.js';
import type { RoleSeats } from './role-seats.js';
import type { Listener } from './seat.js';
import type { Wants } from './wants.js';

type Judges = Pick<Authorizer, 'judge' | 'fold'>;

/** Who of one role sees which row versions of a batch, by the policies. */
export class Sight {
  /** Row versions that were held against the policies. */
  readonly judged: number;
  /** The rows whose judgement raised an error, for those for whom it did. */
  readonly failed = new Map<Listener, ReadonlySet<number>>();
  readonly #isKnown: (row: number) => boolean;
  readonly #everybody: ReadonlyMap<string, Listener>;
  readonly #seeing = new Map<number, Set<Listener>>();

  private constructor(batch: ChangeBatch, wants: Wants, seats: RoleSeats, rights: RoleRights) {
    const required = batch.view.requirement(rights.reads);
    this.#isKnown = (row) => required !== null && row !== NO_ROW && batch.knows(row, required);
    this.#everybody = seats.listeners;
    const wanted = batch.changes.filter((change) => wants.isWanted(change));
    for (const { oldRow, newRow } of wanted)
      for (const row of [oldRow, newRow]) if (this.#isKnown(row)) this.#seeing.set(row, new Set());
    this.judged = this.#seeing.size;
  }

  /** Looks up, where the policies are compiled, and asks PostgreSQL for everybody else. */
  static async of(
    authorizer: Judges,
    batch: ChangeBatch,
    wants: Wants,
    seats: RoleSeats,
    rights: RoleRights,
  ): Promise<Sight> {
    const sight = new Sight(batch, wants, seats, rights);
    if (sight.#seeing.size === 0) return sight;
    const { facts } = batch.view;
    let beyond: Iterable<Listener> = seats.listeners.values();
    if ('compiled' in rights.judging) {
      const role = roleOf(seats);
      const indexed = await seats.indexed(rights.judging, (contexts) =>
        authorizer.fold(facts, role, contexts),
      );
      for (const [row, seeing] of sight.#seeing)
        for (const listener of indexed.index.find(batch.exact(row))) seeing.add(listener);
      beyond = indexed.beyond;
    }
    await sight.#ask(authorizer, facts, batch, wants, [...beyond]);
    return sight;
  }

  /** Everybody who sees a version of the row; of a TRUNCATE everybody hears. */
  ofChange({ streamed, oldRow, newRow }: DecodedChange): Iterable<Listener> {
    if (streamed.kind === 'truncate') return this.#everybody.values();
    const old = this.#seeing.get(oldRow) ?? NOBODY;
    const now = this.#seeing.get(newRow) ?? NOBODY;
    if (old.size === 0) return now;
    return now.size === 0 ? old : new Set([...old, ...now]);
  }

  /** Undefined: that cannot be told, since the log does not have what the policies read. */
  isVisible(listener: Listener, row: number): boolean | undefined {
    return this.#isKnown(row) ? this.#seeing.get(row)?.has(listener) === true : undefined;
  }

  async #ask(
    authorizer: Judges,
    facts: TableFacts,
    batch: ChangeBatch,
    wants: Wants,
    listeners: readonly Listener[],
  ): Promise<void> {
    const wanted = new RowsWanted(batch, wants, (row) => this.#seeing.has(row));
    const asked = listeners.flatMap((listener) => {
      const rows = wanted.by(listener);
      return rows.length === 0 ? [] : [{ listener, request: { context: listener.context, rows } }];
    });
    if (asked.length === 0) return;
    const requests: JudgeRequest[] = asked.map(({ request }) => request);
    const verdicts = await authorizer.judge(facts, batch.rows, requests);
    for (const [n, { listener }] of asked.entries()) this.#note(listener, verdicts[n]);
  }

  #note(listener: Listener, verdict: Verdict | undefined): void {
    if (verdict === undefined) throw new Error('a context without a verdict');
    for (const row of verdict.visible) this.#seeing.get(row)?.add(listener);
    if (verdict.failed.size > 0) this.failed.set(listener, verdict.failed);
  }
}

const NOBODY: ReadonlySet<Listener> = new Set();

function roleOf({ listeners }: RoleSeats): string {
  for (const { context } of listeners.values()) return context.role;
  throw new Error('a role without anybody');
}

/** Which rows of a batch matter to whom: those that some seat of theirs wants. Seats that want the same share the answer. */
class RowsWanted {
  readonly #batch: ChangeBatch;
  readonly #wants: Wants;
  readonly #isJudged: (row: number) => boolean;
  readonly #ofChannels = new Map<string, readonly number[]>();

  constructor(batch: ChangeBatch, wants: Wants, isJudged: (row: number) => boolean) {
    this.#batch = batch;
    this.#wants = wants;
    this.#isJudged = isJudged;
  }

  by({ seats }: Listener): readonly number[] {
    const all = [...seats].map((seat) => {
      if (seat.owner !== undefined) return this.#ofSeat(seat);
      const { name } = seat.channel;
      const rows = this.#ofChannels.get(name) ?? this.#ofSeat(seat);
      this.#ofChannels.set(name, rows);
      return rows;
    });
    const [first = [], ...others] = all;
    return others.length === 0 ? first : [...new Set(all.flat())];
  }

  #ofSeat(seat: Parameters<Wants['of']>[1]): readonly number[] {
    const rows = new Set<number>();
    for (const change of this.#batch.changes) {
      const candidate = this.#wants.of(change, seat);
      if (candidate === undefined) continue;
      const { oldWanted, newWanted } = candidate;
      if (oldWanted.length > 0 && this.#isJudged(change.oldRow)) rows.add(change.oldRow);
      if (newWanted.length > 0 && this.#isJudged(change.newRow)) rows.add(change.newRow);
    }
    return [...rows];
  }
}
