/**
 * SQL for whether the table `c` has a hand-made trigger, from the specification's SQL; `schema`: of our own
 * function.
 */
export function isHandMade(schema: string): string {
  return `EXISTS (SELECT FROM pg_trigger g JOIN pg_proc p ON p.oid = g.tgfoid JOIN pg_namespace f ON f.oid = p.pronamespace
    WHERE g.tgrelid = c.oid AND NOT g.tgisinternal AND g.tgenabled <> 'D' AND p.proname = 'notify_table_changes' AND f.nspname <> '${schema}')`;
}

/** SQL for whether the table `c` has both of our triggers, enabled; `schema`: of our function. */
export function hasOurTriggers(schema: string): string {
  return `(SELECT count(*) = 2 FROM pg_trigger g JOIN pg_proc p ON p.oid = g.tgfoid
    WHERE g.tgrelid = c.oid AND g.tgparentid = 0 AND g.tgenabled = 'A' AND p.proname = 'notify_table_changes' AND p.pronamespace = '${schema}'::regnamespace)`;
}
