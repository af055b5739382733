import { ProtocolError } from '@goforward/realtime-protocol';
import { type Identity, identityOf } from '../../auth/identity.js';
import { quoted } from '../../postgres/identifier.js';
import { recordFields } from '../../postgres/record-text.js';
import type { Sql } from '../../postgres/sql.js';
import type { Authorizer, Condition } from '../authorizer.js';
import type { RowContext, RowContexts } from '../row-context.js';
import type { RowImage } from '../row-image.js';
import type { Policy, RoleRights, TableFacts } from '../table-facts.js';
import { tierOf } from './tiers.js';

export interface ExplainerParts {
  readonly database: Sql & { transaction<T>(work: (sql: Sql) => Promise<T>): Promise<T> };
  readonly authorizer: Authorizer;
  readonly contexts: RowContexts;
  readonly inspect: (schema: string, table: string) => Promise<{ readonly oid: number }>;
  readonly checkCondition: (table: TableFacts, role: string, text: string) => Promise<Condition>;
}

/** Whom and what it is asked about. */
export interface ExplainRequest {
  readonly schema: string;
  readonly table: string;
  readonly condition?: string;
  /** The claims of the user's token. */
  readonly user: Readonly<Record<string, unknown>>;
  /** Values by column: of a row that is there, or the row itself. */
  readonly key?: Readonly<Record<string, unknown>>;
  readonly row?: Readonly<Record<string, unknown>>;
}

/** What an expression comes to. */
type Result = 'true' | 'false' | 'null' | 'error';

export interface Explanation {
  readonly visible: boolean;
  /** Why, in sentences. */
  readonly reasons: readonly string[];
  readonly user_id: string;
  readonly role: string;
  readonly tier: string;
  readonly tier_reason: string;
  readonly policies: readonly {
    readonly name: string;
    readonly permissive: boolean;
    readonly expression: string;
    readonly result: Result;
  }[];
  readonly condition?: { readonly text: string; readonly holds: boolean };
  /** Columns that the role may not read. */
  readonly columns_left_out: readonly string[];
}

const TIMEOUT_MS = 1_000;

/** Tells why a user gets a version of a row, or does not. */
export class Explainer {
  readonly #parts: ExplainerParts;

  constructor(parts: ExplainerParts) {
    this.#parts = parts;
  }

  /** Throws TABLE_NOT_FOUND, VALIDATION_FAILED for claims that name no user, and DB_SUBSCRIPTION_FAILED for a row that is none. */
  async explain(request: ExplainRequest): Promise<Explanation> {
    const { authorizer, contexts, inspect, checkCondition } = this.#parts;
    const identity = userOf(request.user);
    const context = contexts.of(identity);
    const { oid } = await inspect(request.schema, request.table);
    const facts = await authorizer.current(oid);
    if (facts === undefined) throw new ProtocolError('TABLE_NOT_FOUND');
    const rights = await authorizer.rights(facts, context.role);
    const { tier, reason } = tierOf(facts, rights);
    const about = {
      user_id: identity.userId,
      role: context.role,
      tier,
      tier_reason: reason,
      columns_left_out: facts.columns.flatMap(({ name }) => (rights.columns.has(name) ? [] : [name])),
    };
    const json = await this.#row(facts, request);
    if (json === undefined)
      return { visible: false, reasons: ['There is no row with this key.'], policies: [], ...about };
    const image = await this.#image(facts, json);
    const policies = await this.#policies(facts, rights, context, json);
    const isVisible = await this.#isVisible(facts, rights, context, image);
    const { condition: text } = request;
    const condition = text === undefined ? undefined : await checkCondition(facts, context.role, text);
    const [verdict] = condition === undefined ? [] : await authorizer.conditions(facts, [image], [condition]);
    const holds = verdict?.visible.has(0);
    return {
      visible: isVisible && holds !== false,
      reasons: [
        ...reasonsOf(rights, reason, policies, isVisible),
        ...(holds === false ? ['The condition is not true of the row.'] : []),
      ],
      policies,
      ...(text === undefined ? {} : { condition: { text, holds: holds === true } }),
      ...about,
    };
  }

  /** The row as JSON; undefined: there is none. */
  async #row(facts: TableFacts, { key, row }: ExplainRequest): Promise<string | undefined> {
    if (row !== undefined) return JSON.stringify(row);
    const given = Object.entries(key ?? {});
    for (const [name] of given)
      if (facts.columns.every((column) => column.name !== name))
        throw failed(`Column '${name}' does not exist in table '${facts.name}'`);
    if (given.length === 0) throw failed('A key or a row is needed');
    const where = given.map(([name], n) => `t.${quoted(name)}::text = $${n + 1}`);
    const [found] = await this.#parts.database.query<{ row: string }>(
      `SELECT pg_catalog.to_jsonb(t)::text AS row FROM ${nameOf(facts)} AS t WHERE ${where.join(' AND ')} LIMIT 1`,
      given.map(([, value]) => String(value)),
    );
    return found?.row;
  }

  async #image(facts: TableFacts, json: string): Promise<RowImage> {
    try {
      const [row] = await this.#parts.database.query<{ record: string }>(
        `SELECT r::text AS record FROM pg_catalog.jsonb_populate_record(NULL::${nameOf(facts)}, $1::jsonb) AS r`,
        [json],
      );
      return recordFields(row?.record ?? '()');
    } catch (error) {
      if (error instanceof ProtocolError) throw error;
      throw failed(`This is no row of '${facts.name}'`);
    }
  }

  /** What each policy comes to, one by one. */
  async #policies(
    facts: TableFacts,
    rights: RoleRights,
    context: RowContext,
    json: string,
  ): Promise<Explanation['policies']> {
    if (rights.policies.length === 0) return [];
    return this.#parts.database.transaction(async (sql) => {
      await sql.query(
        `SELECT set_config('app.current_user_id', $1, true), set_config('request.jwt.claims', $2, true),
                set_config('statement_timeout', '${TIMEOUT_MS}', true)`,
        [context.userId, context.claims],
      );
      await sql.query(`SET LOCAL ROLE ${quoted(context.role)}`);
      const results = [];
      for (const policy of rights.policies)
        results.push({ ...policy, result: await resultOf(sql, facts, policy, json) });
      return results;
    });
  }

  async #isVisible(
    facts: TableFacts,
    rights: RoleRights,
    context: RowContext,
    image: RowImage,
  ): Promise<boolean> {
    if (!rights.canSelect || rights.rows === 'none') return false;
    if (rights.rows === 'all') return true;
    const [verdict] = await this.#parts.authorizer.judge(facts, [image], [{ context, rows: [0] }]);
    return verdict?.visible.has(0) === true;
  }
}

async function resultOf(sql: Sql, facts: TableFacts, { expression }: Policy, json: string): Promise<Result> {
  await sql.query('SAVEPOINT policy');
  try {
    const [row] = await sql.query<{ holds: boolean | null }>(
      `SELECT (${expression}) AS holds FROM pg_catalog.jsonb_populate_record(NULL::${nameOf(facts)}, $1::jsonb) AS ${quoted(facts.name)}`,
      [json],
    );
    return row?.holds === true ? 'true' : row?.holds === false ? 'false' : 'null';
  } catch (error) {
    if (error instanceof ProtocolError) throw error;
    return 'error';
  } finally {
    await sql.query('ROLLBACK TO policy');
  }
}

function reasonsOf(
  rights: RoleRights,
  tierReason: string,
  policies: Explanation['policies'],
  isVisible: boolean,
): string[] {
  if (!rights.canSelect || rights.rows !== 'judged')
    return [`${tierReason[0]?.toUpperCase()}${tierReason.slice(1)}.`];
  const named = (isPermissive: boolean, isTrue: boolean) =>
    policies
      .filter(({ permissive, result }) => permissive === isPermissive && (result === 'true') === isTrue)
      .map(({ name, result }) => `${name} (${result})`)
      .join(', ');
  if (isVisible) return [`These policies let it pass: ${named(true, true)}.`];
  const [letting, holding] = [named(true, true), named(false, false)];
  return [
    ...(letting === '' ? [`No policy lets it pass: ${named(true, false)}.`] : []),
    ...(holding === '' ? [] : [`These restrictive policies hold it back: ${holding}.`]),
  ];
}

function userOf(claims: Readonly<Record<string, unknown>>): Identity {
  const identity = identityOf(claims);
  if (identity === null)
    throw new ProtocolError('VALIDATION_FAILED', { details: 'The claims name no user: sub or user_id' });
  return identity;
}

function nameOf({ schema, name }: TableFacts): string {
  return `${quoted(schema)}.${quoted(name)}`;
}

function failed(details: string): ProtocolError {
  return new ProtocolError('DB_SUBSCRIPTION_FAILED', { details });
}
