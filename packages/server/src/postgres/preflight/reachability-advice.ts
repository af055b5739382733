import { SUBSCRIBER_ROLE } from '../migrations/subscriber-role.js';
import {
  canSee,
  isUsable,
  type RoleAccess,
  type SelectPolicy,
  type SubscriberRole,
  type TableReachability,
} from './table-reachability.js';

/**
 * Says why no subscriber can see a row of the table, and which statements change that; undefined where one
 * can.
 */
export function unreachableWarning(table: TableReachability): string | undefined {
  if (table.roles.some(canSee)) return undefined;
  const reasons = table.roles.flatMap((role) => obstaclesOf(table, role));
  const target = table.roles.find(isUsable) ?? table.roles[0];
  if (target === undefined) return undefined;
  return [
    `No subscriber can see a row of ${table.table}, so no change of it reaches anybody: ${[...new Set(reasons)].join('; ')}.`,
    ...advice(table, target),
  ].join(' ');
}

/** Says the same of one role, in sentences; empty where it can see rows. */
export function roleObstacles(table: TableReachability, name: string): string[] {
  const role = table.roles.find((known) => known.rawName === name);
  if (role === undefined || canSee(role)) return [];
  const others = table.roles.filter(canSee).map((other) => other.name);
  return [
    ...obstaclesOf(table, role).map(sentence),
    ...(others.length === 0 ? [] : [`Users of another database role can see rows: ${others.join(', ')}.`]),
    ...advice(table, role),
  ];
}

/** Why nothing reaches a role, as the ends of sentences. */
function obstaclesOf({ table, schema, policies }: TableReachability, role: SubscriberRole): string[] {
  const { name } = role;
  if (!role.exists) return [`the role ${name} does not exist`];
  if (role.bypassesPolicies)
    return [
      `the role ${name} is a superuser or has BYPASSRLS, and no subscriber is evaluated as such a role`,
    ];
  return [
    ...(role.isGranted ? [] : [`the role ${name} is not granted to the server's login`]),
    ...(role.canUseSchema ? [] : [`the role ${name} has no USAGE privilege on the schema ${schema}`]),
    ...(role.canSelect ? [] : [`the role ${name} has no SELECT privilege on ${table}`]),
    ...(role.passesPolicies ? [] : [policyObstacle(policies, name)]),
  ];
}

function policyObstacle(policies: readonly SelectPolicy[], role: string): string {
  if (policies.length === 0) return 'row level security is on, and the table has no policy for SELECT';
  const named = policies.map(
    ({ name, permissive, roles }) => `${name} (${permissive ? '' : 'restrictive, '}TO ${namesOf(roles)})`,
  );
  const what = policies.some(({ permissive }) => permissive)
    ? `no permissive policy for SELECT applies to ${role}`
    : 'the table has no permissive policy for SELECT';
  return `row level security is on, and ${what}; its policies are ${named.join(', ')}`;
}

/** What to do about it, in sentences that end with statements. `target`: the role that is to see rows. */
function advice(table: TableReachability, target: SubscriberRole): string[] {
  if (target.bypassesPolicies)
    return [
      target.name === SUBSCRIBER_ROLE
        ? `Run ALTER ROLE ${target.name} NOSUPERUSER NOBYPASSRLS;`
        : `Remove ${target.name} from REALTIME_DB_ROLES.`,
    ];
  const grants = [...roleStatements(table, target), ...privilegeStatements(table, target)];
  const own = grants.length === 0 ? [] : [`Run ${grants.join(' ')}`];
  if (target.passesPolicies) return own;
  if (!table.policies.some(({ permissive }) => permissive)) return [...own, newPolicyAdvice(table, target)];
  const byRole = namedRoleAdvice(table);
  const widened = widenedPolicies(table, target).join(' ');
  return byRole === undefined
    ? [...own, `Let a policy apply to every user that is evaluated as ${target.name}: ${widened}`]
    : [
        byRole,
        ...own,
        `Or let a policy apply to every user that is evaluated as ${target.name}, whatever the role of the token: ${widened}`,
      ];
}

/** Makes the role one that subscribers can be evaluated as. */
function roleStatements({ login, serverVersion }: TableReachability, role: RoleAccess): string[] {
  if (role.isGranted) return [];
  // The login needs to become the role, not to have its privileges.
  const options = serverVersion >= 160_000 ? ' WITH INHERIT FALSE, SET TRUE' : '';
  return [
    ...(role.exists ? [] : [`CREATE ROLE ${role.name} NOLOGIN;`]),
    `GRANT ${role.name} TO ${login}${options};`,
  ];
}

function privilegeStatements({ table, schema }: TableReachability, role: RoleAccess): string[] {
  return [
    ...(role.canUseSchema ? [] : [`GRANT USAGE ON SCHEMA ${schema} TO ${role.name};`]),
    ...(role.canSelect ? [] : [`GRANT SELECT ON TABLE ${table} TO ${role.name};`]),
  ];
}

function newPolicyAdvice({ table }: TableReachability, { name }: SubscriberRole): string {
  const statement = (condition: string) =>
    `CREATE POLICY realtime_select ON ${table} FOR SELECT TO ${name} USING (${condition});`;
  return `Say who sees which row, in place of …: ${statement('…')} Or show each row to every subscriber: ${statement('true')}`;
}

/**
 * Evaluates users as the roles that permissive policies name, so that each sees what it sees in the application.
 * Granting such a role to realtime_subscriber instead does not work, since that is NOINHERIT; with INHERIT it
 * would get the privileges to write as well.
 */
function namedRoleAdvice(table: TableReachability): string | undefined {
  const named = new Map<string, RoleAccess>();
  for (const { permissive, roles } of table.policies)
    for (const role of roles)
      if (permissive && role.exists && !role.bypassesPolicies) named.set(role.name, role);
  const roles = [...named.values()];
  if (roles.length === 0) return undefined;
  const listed = table.roles.slice(1).map(({ name }) => name);
  const unlisted = roles
    .map(({ name }) => name)
    .filter((name) => !table.roles.some((role) => role.name === name));
  const setting =
    unlisted.length === 0
      ? []
      : [`set REALTIME_DB_ROLES=${[...listed, ...unlisted].map(unquoted).join(',')}`];
  const statements = roles.flatMap((role) => [
    ...roleStatements(table, role),
    ...privilegeStatements(table, role),
  ]);
  const steps = [...setting, ...(statements.length === 0 ? [] : [`run ${statements.join(' ')}`])];
  return steps.length === 0
    ? undefined
    : `Evaluate users whose token has the role ${roles.map(({ name }) => name).join(' or ')} as that role: ${steps.join(' and ')}${statements.length === 0 ? '.' : ''}`;
}

/**
 * Adds the role to one permissive policy: to all of them it would get the rows of every role. With it goes
 * every restrictive policy, since the permissive one is written to be narrowed by them.
 */
function widenedPolicies({ table, policies }: TableReachability, { name: target }: SubscriberRole): string[] {
  const permissive = policies.filter((policy) => policy.permissive);
  const chosen = permissive.find(({ isAlwaysTrue }) => !isAlwaysTrue) ?? permissive[0];
  return policies
    .filter((policy) => policy === chosen || (!policy.permissive && !policy.appliesTo.includes(target)))
    .map(({ name, roles }) => `ALTER POLICY ${name} ON ${table} TO ${namesOf(roles)}, ${target};`);
}

function namesOf(roles: readonly RoleAccess[]): string {
  return roles.map(({ name }) => name).join(', ');
}

/** As the setting has it. */
function unquoted(name: string): string {
  return name.startsWith('"') ? name.slice(1, -1).replaceAll('""', '"') : name;
}

function sentence(text: string): string {
  return `${text[0]?.toUpperCase()}${text.slice(1)}.`;
}
