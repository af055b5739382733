import { idempotent } from '../sql/idempotent.js';
import type { Sql } from '../sql/sql.js';

/** The role that rows are judged as, where a token chooses no other. */
export const SUBSCRIBER_ROLE = 'realtime_subscriber';

/**
 * Makes the role where it is missing and our login may, and grants it to our login, which must be able to become it.
 * From PostgreSQL 16 on whoever makes a role may grant it, but is no member that can SET ROLE.
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
