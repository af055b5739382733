import { describe, expect, it } from 'vitest';
import type { WalRelation } from '../../postgres/source/change-source.js';
import type { RowImage } from '../model/row-image.js';
import type { TableFacts } from '../model/table-facts.js';
import type { Subscription } from '../subscriptions/subscription.js';
import { ValueFormats } from '../values/value-formats.js';
import type { Condition, ConditionRequest, ConditionResult } from '../visibility/authorizer.js';
import type { Compilation } from '../visibility/compiling/compiled-expression.js';
import { LikePattern } from '../visibility/compiling/like-pattern.js';
import { familyOf } from '../visibility/compiling/type-families.js';
import { ConditionMatches } from './condition-matches.js';
import { SubscriptionIndex } from './subscription-index.js';
import { TableBatch } from './table-batch.js';
import { TableLayout } from './table-layout.js';

const text = familyOf('text');
const COLUMN = { name: 'body', number: 1, typeOid: 25, type: 'text', generated: null, family: 'text' };
const FACTS: TableFacts = {
  oid: 1,
  schema: 'public',
  name: 'notes',
  kind: 'table',
  columns: [COLUMN],
  primaryKey: [],
  identity: 'f',
  identityColumns: ['body'],
};
const RELATION = { columns: [{ name: 'body', typeOid: 25 }] } as unknown as WalRelation;
const LARGE = `${'a'.repeat(700_000)}c`;
/** Takes more than half of the steps of a tick. */
const COSTLY = `%${'_a'.repeat(20)}b%`;
/** Takes more than all of them. */
const TOO_COSTLY = `%${'_a'.repeat(40)}b%`;

/** Compiles a condition whose SQL is a pattern for `body`; PostgreSQL evaluates one that begins with `~`. */
async function compileCondition(_: TableFacts, { sql }: Condition): Promise<Compilation> {
  if (sql.startsWith('~')) return { reason: 'it has the operator ~' };
  const left = { kind: 'column', columnIndex: 0, family: text } as const;
  const pattern = { kind: 'constant', pattern: LikePattern.of(sql) ?? null } as const;
  return { compiled: { predicate: { kind: 'like', left, pattern }, parameters: [], memberships: [] } };
}

/** Records what PostgreSQL is asked: lengths of rows, and conditions. Its answer is true for all rows but those of `failing`. */
class Postgres {
  readonly asked: [rows: number[], conditions: string[]][] = [];
  failing: string | undefined;

  async evaluateConditions(
    _: TableFacts,
    rows: readonly RowImage[],
    requests: readonly ConditionRequest[],
  ): Promise<ConditionResult[]> {
    this.asked.push([rows.map(([body]) => body?.length ?? 0), requests.map(({ condition: { sql } }) => sql)]);
    const none = new Set<number>();
    return requests.map(({ condition: { sql }, rows: own }) =>
      sql === this.failing
        ? { visible: none, failed: new Set(own), tookMs: 1, medianMs: 1 }
        : { visible: new Set(own), failed: none, tookMs: 1, medianMs: 1 },
    );
  }
}

/** `isSeen`: whether somebody sees the row. */
async function evaluate(
  postgres: Postgres,
  rows: readonly RowImage[],
  conditions: readonly string[],
  isSeen = (_row: number) => true,
) {
  const index = new SubscriptionIndex({ compileCondition }, FACTS);
  const subscriptions = conditions.map((sql, n) => {
    const condition = { sql, columns: ['body'] };
    return ['lobby', { id: `${sql} ${n}`, condition } as unknown as Subscription] as const;
  });
  await index.update(subscriptions);
  const formats = new ValueFormats({ query: async () => [] });
  const batch = new TableBatch(new TableLayout(RELATION, FACTS, formats));
  batch.rows.push(...rows);
  const matches = await ConditionMatches.inProcess(batch, index);
  const seen = [...matches.open].map(([group, open]) => ({
    group,
    rows: [...open].filter(isSeen),
    payers: new Map(),
  }));
  const { failed: failures } = await matches.evaluateSeen(
    postgres,
    seen.filter((condition) => condition.rows.length > 0),
  );
  return {
    matching: rows.map((_, row) => [...matches.of(row)].map(({ subscription }) => subscription.id).sort()),
    failed: failures.map(({ group, rows: failed }) => [group.condition.sql, [...failed]]),
  };
}

describe('the conditions on a row', () => {
  it('are evaluated in process, once for all subscriptions with the same text', async () => {
    const postgres = new Postgres();
    const { matching } = await evaluate(
      postgres,
      [['abc'], ['xyz'], [null], [undefined]],
      ['%b%', 'x%', '%b%'],
    );
    expect(matching).toEqual([['%b% 0', '%b% 2'], ['x% 1'], [], []]);
    expect(postgres.asked).toEqual([]);
  });

  it('that take more steps than a tick has are evaluated in several', async () => {
    const postgres = new Postgres();
    const conditions = ['%c', COSTLY, `${COSTLY}c`, '%c%'];
    const { matching } = await evaluate(postgres, [['abc'], [LARGE]], conditions);
    expect(matching).toEqual([
      ['%c 0', '%c% 3'],
      ['%c 0', '%c% 3'],
    ]);
    expect(postgres.asked).toEqual([]);
  });

  it('that take more than that alone are evaluated by PostgreSQL, on this row alone', async () => {
    const postgres = new Postgres();
    const conditions = ['%c', TOO_COSTLY, '%c%'];
    const { matching, failed } = await evaluate(postgres, [['abc'], [LARGE]], conditions);
    expect(matching).toEqual([
      ['%c 0', '%c% 2'],
      [`${TOO_COSTLY} 1`, '%c 0', '%c% 2'],
    ]);
    expect(postgres.asked).toEqual([[[LARGE.length], [TOO_COSTLY]]]);
    expect(failed).toEqual([]);
  });

  it('that take more ticks than a row has are left to PostgreSQL too', async () => {
    const postgres = new Postgres();
    const conditions = Array.from({ length: 60 }, (_, n) => `${COSTLY}${n}%`);
    await evaluate(postgres, [[LARGE]], conditions);
    // The first tick, and fifty more.
    expect(postgres.asked).toEqual([[[LARGE.length], conditions.slice(51)]]);
  });

  it('that PostgreSQL cannot evaluate either have failed on it, and match other rows', async () => {
    const postgres = new Postgres();
    postgres.failing = `${TOO_COSTLY}%`;
    const small = `${'_a'.repeat(40)}b`;
    const { matching, failed } = await evaluate(postgres, [[small], [LARGE]], [TOO_COSTLY, `${TOO_COSTLY}%`]);
    expect(matching).toEqual([[`${TOO_COSTLY} 0`, `${TOO_COSTLY}% 1`], [`${TOO_COSTLY} 0`]]);
    expect(failed).toEqual([[`${TOO_COSTLY}%`, [1]]]);
  });

  it('that are not compiled are evaluated by PostgreSQL, on rows that have the columns', async () => {
    const postgres = new Postgres();
    const { matching } = await evaluate(postgres, [['abc'], ['xyz'], [undefined]], ['~a', '%b%']);
    expect(matching).toEqual([['%b% 1', '~a 0'], ['~a 0'], []]);
    expect(postgres.asked).toEqual([[[3, 3], ['~a']]]);
  });

  it('are not evaluated by PostgreSQL on rows that nobody sees, and PostgreSQL does not get these', async () => {
    const postgres = new Postgres();
    postgres.failing = '~c';
    const rows = [['a'], ['hidden'], ['abc'], ['hidden']];
    const { failed } = await evaluate(postgres, rows, ['~a', '~c'], (row) => row % 2 === 0);
    expect(postgres.asked).toEqual([
      [
        [1, 3],
        ['~a', '~c'],
      ],
    ]);
    expect(failed).toEqual([['~c', [0, 2]]]);
    await evaluate(postgres, rows, ['~a'], () => false);
    expect(postgres.asked).toHaveLength(1);
  });
});
