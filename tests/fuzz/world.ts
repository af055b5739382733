import type { Random } from './random.js';

/** A random table with policies and privileges, the rows to check, and the viewers to check them for. */
export interface World {
  /** SQL that creates the table `t` and its policies, which may read the memberships in `m`. */
  readonly statements: string;
  /** Row versions as values of id, a, b, c, u and the generated g, which is always null here. */
  readonly rows: readonly (readonly (string | null)[])[];
  readonly viewers: readonly { readonly role: string; readonly userId: string; readonly claims: string }[];
  readonly conditions: readonly string[];
}

const USERS = [
  '11111111-1111-4111-8111-111111111111',
  '22222222-2222-4222-8222-222222222222',
  'ada',
  'o\'hara \\ "x"',
  '',
];
const TEXTS = [...USERS, 'x', 'xy', null];
const ROWS = 10;
const VIEWERS = 5;

/** The functions and memberships that all worlds share. */
export const FOUNDATION = `
  CREATE TABLE m (room int, member text, PRIMARY KEY (room, member));
  INSERT INTO m SELECT n, member FROM generate_series(0, 5) n, unnest(ARRAY['ada', '${USERS[0]}']) member WHERE n % 2 = 0 OR member = 'ada';
  CREATE FUNCTION is_even(n int) RETURNS bool LANGUAGE sql IMMUTABLE AS 'SELECT n % 2 = 0';
  CREATE FUNCTION is_member(n int) RETURNS bool LANGUAGE plpgsql STABLE SECURITY DEFINER AS
    $$ BEGIN RETURN EXISTS (SELECT FROM public.m WHERE room = n AND member = current_setting('app.current_user_id')); END $$;
  CREATE FUNCTION me() RETURNS text LANGUAGE sql STABLE AS $$ SELECT current_setting('app.current_user_id', true) $$;`;

export function makeWorld(random: Random, roles: readonly string[]): World {
  const isRaising = random.chance(0.2);
  const count = isRaising ? 1 : 1 + random.below(4);
  const policies = Array.from({ length: count }, (_, n) => policy(random, roles, n, isRaising));
  const all = roles.join(', ');
  const statements = [
    'DROP TABLE IF EXISTS t',
    'CREATE TABLE t (id int PRIMARY KEY, a int, b text, c bool, u uuid, g int GENERATED ALWAYS AS (coalesce(a, 0) + 1) STORED)',
    ...(random.chance(0.9) ? ['ALTER TABLE t ENABLE ROW LEVEL SECURITY'] : []),
    ...(random.chance(0.2) ? ['ALTER TABLE t FORCE ROW LEVEL SECURITY'] : []),
    ...(random.chance(0.15) ? [`ALTER TABLE t OWNER TO ${random.of(roles)}`] : []),
    `REVOKE ALL ON t, m FROM ${all}`,
    ...roles.flatMap((role) => grants(random, role)),
    ...(random.chance(0.3)
      ? ['ALTER TABLE m ENABLE ROW LEVEL SECURITY']
      : ['ALTER TABLE m DISABLE ROW LEVEL SECURITY']),
    'DROP POLICY IF EXISTS mine ON m',
    ...(random.chance(0.7)
      ? [`CREATE POLICY mine ON m USING (member = current_setting('app.current_user_id', true))`]
      : []),
    ...policies,
  ];
  return {
    statements: statements.join(';\n'),
    rows: Array.from({ length: ROWS }, (_, n) => row(random, n)),
    viewers: Array.from({ length: VIEWERS }, () => ({
      role: random.of(roles),
      userId: random.of(USERS),
      claims: JSON.stringify(random.chance(0.5) ? { tenant: random.below(4), sub: random.of(USERS) } : {}),
    })),
    conditions: Array.from({ length: 3 }, () => condition(random, 2)),
  };
}

function grants(random: Random, role: string): string[] {
  const memberships = random.chance(0.8) ? [`GRANT SELECT ON m TO ${role}`] : [];
  const kind = random.next();
  if (kind < 0.7) return [...memberships, `GRANT SELECT ON t TO ${role}`];
  if (kind < 0.9)
    return [...memberships, `GRANT SELECT (id${random.chance(0.5) ? ', a' : ''}) ON t TO ${role}`];
  return memberships;
}

function policy(random: Random, roles: readonly string[], n: number, isRaising: boolean): string {
  const kind = random.chance(0.3) ? 'RESTRICTIVE' : 'PERMISSIVE';
  const command = random.of(['SELECT', 'SELECT', 'ALL', 'INSERT']);
  const to = random.chance(0.6) ? 'PUBLIC' : random.of(roles);
  const expression = isRaising ? `u = current_setting('app.current_user_id')::uuid` : predicate(random, 2);
  const clause = command === 'INSERT' ? 'WITH CHECK' : 'USING';
  return `CREATE POLICY p${n} ON t AS ${kind} FOR ${command} TO ${to} ${clause} (${expression})`;
}

function predicate(random: Random, depth: number): string {
  if (depth > 0 && random.chance(0.5)) {
    const inner = () => predicate(random, depth - 1);
    return random.of([
      () => `(${inner()}) AND (${inner()})`,
      () => `(${inner()}) OR (${inner()})`,
      () => `NOT (${inner()})`,
      () => `CASE WHEN ${inner()} THEN ${inner()} ELSE ${inner()} END`,
    ])();
  }
  const n = random.below(6);
  return random.of([
    `b = current_setting('app.current_user_id', true)`,
    `b = (SELECT me())`,
    `b = me()`,
    `b IS DISTINCT FROM current_setting('app.current_user_id', true)`,
    `b IN ('current_setting(''x''::text)', current_setting('app.current_user_id', true))`,
    `a > ${n}`,
    `a BETWEEN 1 AND ${n}`,
    'c',
    'c IS NOT TRUE',
    'b IS NULL',
    `b LIKE 'x%'`,
    `g = ${n}`,
    `a IN (SELECT room FROM m WHERE member = current_setting('app.current_user_id', true))`,
    'EXISTS (SELECT FROM m WHERE m.room = t.a AND m.member = t.b)',
    'EXISTS (SELECT FROM m JOIN m other USING (room) WHERE m.room = a AND other.member = b)',
    'is_even(a)',
    'is_member(a)',
    `(nullif(current_setting('request.jwt.claims', true), '')::jsonb ->> 'tenant')::int = a`,
    `nullif(current_setting('request.jwt.claims', true), '')::jsonb ->> 'sub' = b`,
    `current_user = 'realtime_subscriber'`,
    't.* IS NOT NULL',
    'true',
  ]);
}

function condition(random: Random, depth: number): string {
  if (depth > 0 && random.chance(0.6)) {
    const inner = () => condition(random, depth - 1);
    return random.of([
      () => `${inner()} AND ${inner()}`,
      () => `(${inner()} OR ${inner()})`,
      () => `NOT (${inner()})`,
    ])();
  }
  const n = random.below(6);
  return random.of([
    `a > ${n}`,
    `a + ${n} * 2 = 4 - a`,
    `10 / a > ${n}`,
    `b = 'x'`,
    `b IN ('ada', 'o''hara \\ "x"')`,
    'c IS NOT FALSE',
    `u = '${USERS[0]}'`,
    `lower(b) LIKE 'x%'`,
    `coalesce(a, ${n}) BETWEEN 1 AND 3`,
    `b IS DISTINCT FROM 'xy'`,
  ]);
}

function row(random: Random, id: number): (string | null)[] {
  const isNull = () => random.chance(0.2);
  return [
    String(id),
    isNull() ? null : String(random.below(6)),
    random.of(TEXTS),
    isNull() ? null : random.of(['t', 'f']),
    isNull() ? null : random.of(USERS.slice(0, 2)),
    null,
  ];
}
