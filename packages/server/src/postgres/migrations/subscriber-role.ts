import { idempotent } from '../sql/idempotent.js';
import type { Sql } from '../sql/sql.js';

/** The role that subscribers are evaluated as, unless their token chooses one of REALTIME_DB_ROLES. */
export const SUBSCRIBER_ROLE = 'realtime_subscriber';

/**
 * Creates the role if it is missing and our login has CREATEROLE, and grants it to our login, which must be
 * able to SET ROLE to it. From PostgreSQL 16 on the creator of a role can grant it, but is not itself a
 * member with SET.
 */
export async function ensureSubscriberRole(sql: Sql): Promise<void> {
  const [state] = await sql.query<{
    exists: boolean;
    granted: boolean;
    may_create: boolean;
    version: number;
  }>(
    `SELECT r.oid IS NOT NULL AS exists,
            coalesce(pg_has_role(me.oid, r.oid, CASE WHEN current_setting('server_version_num')::int >= 160000 THEN 'SET' ELSE 'MEMBER' END), false) AS granted,
            me.rolcreaterole OR me.rolsuper AS may_create,
            current_setting('server_version_num')::int AS version
     FROM pg_roles me LEFT JOIN pg_roles r ON r.rolname = $1 WHERE me.rolname = current_user`,
    [SUBSCRIBER_ROLE],
  );
  if (state === undefined || !state.may_create) return;
  if (!state.exists) await idempotent(sql, `CREATE ROLE ${SUBSCRIBER_ROLE} NOLOGIN NOINHERIT`);
  if (!state.granted) {
    const options = state.version >= 160_000 ? ' WITH INHERIT FALSE, SET TRUE' : '';
    await idempotent(sql, `GRANT ${SUBSCRIBER_ROLE} TO CURRENT_USER${options}`);
  }
}
