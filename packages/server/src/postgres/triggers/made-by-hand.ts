/** Whether a trigger on the table `c` was made by hand from the specification's SQL; `schema`: of our own function. */
export function isMadeByHand(schema: string): string {
  return `EXISTS (SELECT FROM pg_trigger g JOIN pg_proc p ON p.oid = g.tgfoid JOIN pg_namespace f ON f.oid = p.pronamespace
    WHERE g.tgrelid = c.oid AND NOT g.tgisinternal AND g.tgenabled <> 'D' AND p.proname = 'notify_table_changes' AND f.nspname <> '${schema}')`;
}
