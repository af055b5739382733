import type { Sql } from '../../postgres/sql/sql.js';

/** Describes a type from `pg_type`, as far as the JSON of its values depends on it. */
export interface TypeFacts {
  readonly oid: number;
  /** The qualified name, as SQL writes it. */
  readonly name: string;
  /** The element type of a true array, otherwise 0. */
  readonly element: number;
  /** The delimiter between the elements of an array of this type. */
  readonly delimiter: string;
  /** The base type of a domain, otherwise 0. */
  readonly base: number;
  /** The attributes of a composite type. */
  readonly attributes: readonly { readonly name: string; readonly type: number }[] | null;
  /** Whether the type has its own cast to json or jsonb, which `to_jsonb` uses. */
  readonly hasJsonCast: boolean;
}

const FIRST_USER_OID = 16_384;

/** Reads these types and all types they consist of: elements, base types and attributes. */
export async function readTypes(sql: Sql, oids: readonly number[]): Promise<TypeFacts[]> {
  return sql.query<TypeFacts & object>(
    `WITH RECURSIVE needed(oid) AS (
       SELECT unnest($1::oid[])
       UNION
       SELECT part.oid FROM needed n JOIN pg_type t ON t.oid = n.oid,
       LATERAL (
         SELECT t.typelem WHERE t.typelem <> 0
         UNION ALL SELECT t.typbasetype WHERE t.typtype = 'd'
         UNION ALL SELECT a.atttypid FROM pg_attribute a
           WHERE t.typtype = 'c' AND a.attrelid = t.typrelid AND a.attnum > 0 AND NOT a.attisdropped
       ) part(oid)
     )
     SELECT t.oid::int8::float8 AS oid,
            format_type(t.oid, NULL) AS name,
            (CASE WHEN t.typelem <> 0 AND t.typsubscript = 'pg_catalog.array_subscript_handler'::regproc
                  THEN t.typelem ELSE 0 END)::int8::float8 AS element,
            t.typdelim::text AS delimiter,
            (CASE WHEN t.typtype = 'd' THEN t.typbasetype ELSE 0 END)::int8::float8 AS base,
            CASE WHEN t.typtype = 'c' THEN (
              SELECT coalesce(json_agg(json_build_object('name', a.attname, 'type', a.atttypid::int8) ORDER BY a.attnum), '[]')
              FROM pg_attribute a WHERE a.attrelid = t.typrelid AND a.attnum > 0 AND NOT a.attisdropped
            ) END AS attributes,
            t.oid >= ${FIRST_USER_OID} AND EXISTS (
              SELECT FROM pg_cast c WHERE c.castsource = t.oid AND c.castmethod = 'f'
                AND c.casttarget IN ('pg_catalog.json'::regtype, 'pg_catalog.jsonb'::regtype)
            ) AS "hasJsonCast"
     FROM needed n JOIN pg_type t ON t.oid = n.oid`,
    [oids],
  );
}
