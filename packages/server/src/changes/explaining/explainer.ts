import { ProtocolError } from '@goforward/realtime-protocol';
import { type Identity, identityOf } from '../../auth/identity.js';
import type { JsonText } from '../../lib/json-text.js';
import { roleObstacles } from '../../postgres/preflight/reachability-advice.js';
import type { TableReachability } from '../../postgres/preflight/table-reachability.js';
import type { FilterEvent } from '../model/change-filter.js';
import type { RowImage } from '../model/row-image.js';
import type { TableFacts } from '../model/table-facts.js';
import type { Viewer, Viewers } from '../model/viewer.js';
import type { Authorizer, Condition, EvaluationError } from '../visibility/authorizer.js';
import type { RolePrivileges } from '../visibility/role-privileges.js';
import { StaleFacts } from '../visibility/stale-facts.js';
import { ExplainedRows, type ExplainerDatabase } from './explained-rows.js';
import type { PastChange, PastChanges } from './past-changes.js';
import type { PolicyResult } from './policy-evaluation.js';
import { tierOf } from './tiers.js';

export interface ExplainerParts {
  readonly database: ExplainerDatabase;
  readonly authorizer: Authorizer;
  readonly viewers: Viewers;
  readonly past: PastChanges;
  readonly inspect: (schema: string, table: string) => Promise<{ readonly oid: number }>;
  readonly reachability: (oid: number) => Promise<TableReachability | undefined>;
  readonly checkCondition: (
    table: TableFacts,
    role: string,
    text: string,
    signal: AbortSignal,
  ) => Promise<Condition>;
}

/** The user and the row, change or subscription to explain. */
export interface ExplainRequest {
  readonly schema: string;
  /** Can be missing with `at`. */
  readonly table?: string;
  readonly condition?: string;
  /** The subscribed events; missing: all. */
  readonly events?: readonly FilterEvent[];
  /** The claims of the user's token. */
  readonly user: Readonly<Record<string, unknown>>;
  /** Values by column: the key of a row in the table, or a whole row. */
  readonly key?: JsonText;
  readonly row?: JsonText;
  /** The cursor of a change, to explain its row versions. */
  readonly at?: string;
}

/** Whether the user gets one row version, and why. */
interface Version {
  readonly visible: boolean;
  /** Sentences. */
  readonly reasons: readonly string[];
  readonly policies: readonly PolicyResult[];
  readonly condition?: { readonly text: string; readonly holds: boolean; readonly error?: EvaluationError };
}

/** What the user gets of a change; `gained`, `lost`: the visibility of an UPDATE. */
type Gets = 'INSERT' | 'UPDATE' | 'DELETE' | 'TRUNCATE' | 'gained' | 'lost' | 'nothing';

/**
 * The answer. For a change it is about the new version (of a DELETE the old one); `old_version` is about the
 * other.
 */
export interface Explanation extends Version {
  readonly user_id: string;
  readonly role: string;
  readonly tier: string;
  readonly tier_reason: string;
  /** Columns that the role cannot read. */
  readonly columns_left_out: readonly string[];
  readonly change?: { readonly event: string; readonly gets: Gets; readonly old_version?: Version };
}

/** How often the catalog may change during one explanation before the request fails. */
const MAX_ATTEMPTS = 10;

/** The user's viewer, with the privileges and the condition that decide. */
interface Case {
  readonly facts: TableFacts;
  readonly privileges: RolePrivileges;
  readonly viewer: Viewer;
  /** Why no row can reach the role at all, in sentences. */
  readonly obstacles: readonly string[];
  readonly tierReason: string;
  readonly condition: Condition | undefined;
  /** The condition as it was given. */
  readonly text: string | undefined;
  readonly rows: ExplainedRows;
  /** Aborts when nobody waits for the explanation. */
  readonly signal: AbortSignal;
}

/** Explains why a user gets a row version, or does not. */
export class Explainer {
  readonly #parts: ExplainerParts;

  constructor(parts: ExplainerParts) {
    this.#parts = parts;
  }

  /**
   * Explains by the present privileges, policies and memberships. Throws TABLE_NOT_FOUND, VALIDATION_FAILED
   * for claims without a user or a cursor without a change, and DB_SUBSCRIPTION_FAILED for values that are
   * not a row. When `signal` aborts, statements are cancelled and its reason is thrown.
   */
  async explain(request: ExplainRequest, signal: AbortSignal): Promise<Explanation> {
    for (let attempt = 1; ; attempt++) {
      try {
        return await this.#explain(request, signal);
      } catch (error) {
        if (!(error instanceof StaleFacts) || attempt === MAX_ATTEMPTS) throw error;
      }
    }
  }

  /** Throws StaleFacts if the catalog changes meanwhile. */
  async #explain(request: ExplainRequest, signal: AbortSignal): Promise<Explanation> {
    const { authorizer, viewers, past, inspect, checkCondition } = this.#parts;
    const identity = userOf(request.user);
    const viewer = viewers.of(identity);
    const { schema, table, at, condition: text } = request;
    const change = at === undefined ? undefined : await past.find(at);
    if (change === undefined && table === undefined) throw failed('A table is needed');
    const asked = table === undefined ? undefined : await inspect(schema, table);
    if (asked !== undefined && change !== undefined && asked.oid !== change.facts.oid)
      throw failed(`The change is of '${change.facts.name}', not of '${table}'`);
    const facts = await authorizer.current(asked?.oid ?? change?.facts.oid ?? 0);
    if (facts === undefined) throw new ProtocolError('TABLE_NOT_FOUND');
    const privileges = await authorizer.privileges(facts, viewer.role);
    const { tier, reason } = tierOf(facts, privileges);
    const about = {
      user_id: identity.userId,
      role: viewer.role,
      tier,
      tier_reason: reason,
      columns_left_out: facts.columns.flatMap(({ name }) => (privileges.columns.has(name) ? [] : [name])),
    };
    const condition = text === undefined ? undefined : await checkCondition(facts, viewer.role, text, signal);
    const obstacles = await this.#obstacles(facts, privileges, viewer, reason);
    const rows = new ExplainedRows(this.#parts.database, { signal });
    const own = { facts, privileges, viewer, obstacles, tierReason: reason, condition, text, rows, signal };
    if (change !== undefined) return { ...(await this.#change(own, change, request.events)), ...about };
    const image = await rows.find(facts, request);
    if (image === undefined)
      return { visible: false, reasons: ['There is no row with this key.'], policies: [], ...about };
    return { ...(await this.#version(own, image)), ...about };
  }

  async #obstacles(
    { oid }: TableFacts,
    { canSelect, rows }: RolePrivileges,
    { role, isUnstorable }: Viewer,
    tierReason: string,
  ): Promise<readonly string[]> {
    if (isUnstorable === true && rows === 'filtered')
      return ['The user id has a character that the encoding of the database does not have.'];
    const reachability = await this.#parts.reachability(oid);
    const found = reachability === undefined ? [] : roleObstacles(reachability, role);
    const isClosed = !canSelect || rows === 'none';
    return isClosed && found.length === 0 ? [sentence(tierReason)] : found;
  }

  async #change(
    own: Case,
    { kind, old: oldImage, new: newImage }: PastChange,
    events: readonly FilterEvent[] | undefined,
  ): Promise<Version & Pick<Explanation, 'change'>> {
    const event = kind.toUpperCase() as Uppercase<typeof kind>;
    const nothing = (...reasons: readonly string[]) =>
      ({ visible: false, reasons, policies: [], change: { event, gets: 'nothing' } }) as const;
    if (own.obstacles.length > 0) return nothing(...own.obstacles);
    if (event === 'TRUNCATE') {
      const reasons = ['A TRUNCATE is sent to every subscriber that can read the table.'];
      return { visible: true, reasons, policies: [], change: { event, gets: event } };
    }
    if (events?.includes(event) === false) return nothing(`The subscription is not for ${event}.`);
    const now = newImage === undefined ? undefined : await this.#version(own, newImage);
    const before = oldImage === undefined ? undefined : await this.#version(own, oldImage);
    const explained = now ?? before;
    if (explained === undefined) return nothing('The change does not contain this version of the row.');
    const gets = getsOf(event, now?.visible === true, before?.visible);
    return {
      ...explained,
      visible: gets !== 'nothing',
      reasons: [
        ...(now?.reasons ?? []).map((text) => (before === undefined ? text : `New version: ${text}`)),
        ...(before?.reasons ?? []).map((text) => (now === undefined ? text : `Old version: ${text}`)),
      ],
      change: { event, gets, ...(now === undefined || before === undefined ? {} : { old_version: before }) },
    };
  }

  async #version(own: Case, image: RowImage): Promise<Version> {
    const { authorizer } = this.#parts;
    const { facts, privileges, viewer, obstacles, condition, text, rows, signal } = own;
    if (obstacles.length > 0) return { visible: false, reasons: obstacles, policies: [] };
    const reads = [...privileges.reads, ...(condition?.columns ?? [])];
    const unknown = facts.columns.filter(
      ({ name, generated }, at) => reads.includes(name) && generated === null && image[at] === undefined,
    );
    if (unknown.length > 0) {
      const names = unknown.map(({ name }) => name).join(', ');
      return {
        visible: false,
        reasons: [`The change does not contain columns that policies or the condition read: ${names}.`],
        policies: [],
      };
    }
    const policies = await rows.policies(facts, privileges.policies, viewer, image);
    // An evaluation in the stream's functions ends by its own time limit, which is short.
    const passes = await this.#passes(own, image);
    signal.throwIfAborted();
    const [verdict] =
      condition === undefined
        ? []
        : await authorizer.evaluateConditions(facts, [image], [{ condition, rows: [0], payers: [] }]);
    const holds = verdict?.visible.has(0);
    const error = verdict?.error;
    return {
      visible: passes && holds !== false,
      reasons: [
        ...reasonsOf(own, policies, passes),
        ...(holds === false && error === undefined ? ['The condition is not true of the row.'] : []),
        ...(error === undefined ? [] : [`The condition raises an error: ${worded(error)}.`]),
      ],
      policies,
      ...(text === undefined
        ? {}
        : { condition: { text, holds: holds === true, ...(error === undefined ? {} : { error }) } }),
    };
  }

  /** Whether privileges and policies let the version pass. */
  async #passes({ facts, privileges, viewer }: Case, image: RowImage): Promise<boolean> {
    if (privileges.rows === 'all') return true;
    const [verdict] = await this.#parts.authorizer.evaluatePolicies(
      facts,
      [image],
      [{ viewer, rows: [0] }],
      [],
    );
    return verdict?.visible.has(0) === true;
  }
}

/** `before`: undefined if the old version is not known. */
function getsOf(event: 'INSERT' | 'UPDATE' | 'DELETE', now: boolean, before: boolean | undefined): Gets {
  if (event === 'INSERT') return now ? event : 'nothing';
  if (event === 'DELETE') return before === true ? event : 'nothing';
  if (now) return before === false ? 'gained' : event;
  return before === true ? 'lost' : 'nothing';
}

function reasonsOf(
  { privileges, tierReason }: Case,
  policies: readonly PolicyResult[],
  passes: boolean,
): string[] {
  if (privileges.rows === 'all') return [sentence(tierReason)];
  const named = (isPermissive: boolean, isTrue: boolean) =>
    policies
      .filter(({ permissive, result }) => permissive === isPermissive && (result === 'true') === isTrue)
      .map(
        ({ name, result, error }) => `${name} (${error === undefined ? result : `error ${worded(error)}`})`,
      )
      .join(', ');
  if (passes) return [`These policies let it pass: ${named(true, true)}.`];
  const [letting, holding] = [named(true, true), named(false, false)];
  return [
    ...(letting === '' ? [`No policy lets it pass: ${named(true, false)}.`] : []),
    ...(holding === '' ? [] : [`These restrictive policies hold it back: ${holding}.`]),
  ];
}

function worded({ sqlstate, message }: EvaluationError): string {
  return `${sqlstate}: ${message}`;
}

function sentence(text: string): string {
  return `${text[0]?.toUpperCase()}${text.slice(1)}.`;
}

function userOf(claims: Readonly<Record<string, unknown>>): Identity {
  const identity = identityOf(claims);
  if (identity === null)
    throw new ProtocolError('VALIDATION_FAILED', { details: 'The claims have no user: sub or user_id' });
  return identity;
}

function failed(details: string): ProtocolError {
  return new ProtocolError('DB_SUBSCRIPTION_FAILED', { details });
}
