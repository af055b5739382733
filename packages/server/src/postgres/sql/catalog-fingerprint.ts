/**
 * SQL for a text that changes whenever the sources of a table's facts and privileges change. These are the
 * table, its columns, keys, policies, publications, triggers and schema; the roles and role memberships of
 * the cluster; and all functions and enums that are not PostgreSQL's own. `oid`: SQL for the table's oid.
 */
export function fingerprintSql(oid: string): string {
  return `(
    SELECT md5(concat_ws('/',
      (SELECT concat(c.xmin, c.ctid, n.xmin, n.ctid) FROM pg_catalog.pg_class c
        JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace WHERE c.oid = ${oid}),
      (SELECT string_agg(concat(a.attnum, ':', a.xmin, a.ctid), ',' ORDER BY a.attnum)
        FROM pg_catalog.pg_attribute a WHERE a.attrelid = ${oid} AND a.attnum > 0),
      (SELECT string_agg(concat(d.oid, ':', d.xmin), ',' ORDER BY d.oid)
        FROM pg_catalog.pg_attrdef d WHERE d.adrelid = ${oid}),
      (SELECT string_agg(concat(i.indexrelid, ':', i.xmin), ',' ORDER BY i.indexrelid)
        FROM pg_catalog.pg_index i WHERE i.indrelid = ${oid} AND (i.indisprimary OR i.indisreplident)),
      (SELECT string_agg(concat(p.oid, ':', p.xmin), ',' ORDER BY p.oid)
        FROM pg_catalog.pg_policy p WHERE p.polrelid = ${oid}),
      (SELECT string_agg(concat(b.oid, ':', b.xmin), ',' ORDER BY b.oid)
        FROM pg_catalog.pg_publication_rel b WHERE b.prrelid = ${oid}),
      (SELECT string_agg(concat(b.oid, ':', b.xmin), ',' ORDER BY b.oid) FROM pg_catalog.pg_publication b),
      (SELECT string_agg(concat(g.oid, ':', g.xmin), ',' ORDER BY g.oid)
        FROM pg_catalog.pg_trigger g WHERE g.tgrelid = ${oid} AND NOT g.tgisinternal),
      (SELECT count(*) FROM pg_catalog.pg_inherits h WHERE h.inhparent = ${oid}),
      (SELECT concat(count(*), ':', sum(pg_catalog.hashtextextended(concat(f.oid, ':', f.xmin), 0) >> 16))
        FROM pg_catalog.pg_proc f JOIN pg_catalog.pg_namespace s ON s.oid = f.pronamespace
        WHERE f.oid >= 16384 AND s.nspname NOT LIKE 'pg\\_temp\\_%'),
      (SELECT concat(count(*), ':', sum(pg_catalog.hashtextextended(concat(e.oid, ':', e.xmin), 0) >> 16))
        FROM pg_catalog.pg_enum e),
      (SELECT concat(count(*), ':', sum(pg_catalog.hashtextextended(m::text, 0) >> 16)) FROM pg_catalog.pg_auth_members m),
      (SELECT concat(count(*), ':', sum(pg_catalog.hashtextextended(
         concat(r.oid, r.rolname, r.rolsuper, r.rolbypassrls, r.rolinherit), 0) >> 16)) FROM pg_catalog.pg_roles r)
    ))
  )`;
}
