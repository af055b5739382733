import { ProtocolError } from '@goforward/realtime-protocol';
import type { Sql } from '../../postgres/sql/sql.js';
import { isUnstorableText } from '../../postgres/sql/unstorable-text.js';

/** The catalog's facts about a table that decide whether and how it can be enabled. */
export interface InspectedTable {
  readonly oid: number;
  readonly schema: string;
  readonly name: string;
  readonly kind: string;
  readonly persistence: string;
  readonly isSystem: boolean;
  readonly isPartition: boolean;
  /** The root table of a partition, qualified. */
  readonly root: string | null;
  readonly isOwn: boolean;
  readonly owner: string;
  readonly hasPrimaryKey: boolean;
  readonly hasRowSecurity: boolean;
  readonly isPublished: boolean;
  readonly canRoleSelect: boolean;
  readonly canRoleUseSchema: boolean;
  readonly canGrantSchema: boolean;
  /** The table itself and, if it is partitioned, its partitions. */
  readonly parts: readonly TablePart[];
}

/** A table or partition with its replica identity; `index`: the index of REPLICA IDENTITY USING INDEX. */
export interface TablePart {
  readonly oid: number;
  readonly schema: string;
  readonly name: string;
  readonly identity: 'd' | 'n' | 'f' | 'i';
  readonly index: string | null;
}

const INSPECT = `
  SELECT c.oid::int8::float8 AS oid, n.nspname::text AS schema, c.relname::text AS name,
    c.relkind::text AS kind, c.relpersistence::text AS persistence,
    c.oid < 16384 OR n.nspname IN ('pg_catalog', 'information_schema', 'pg_toast') AS "isSystem",
    c.relispartition AS "isPartition",
    CASE WHEN c.relispartition THEN (
      SELECT format('%I.%I', rn.nspname, rc.relname) FROM pg_class rc JOIN pg_namespace rn ON rn.oid = rc.relnamespace
      WHERE rc.oid = pg_partition_root(c.oid)) END AS root,
    pg_has_role(c.relowner, 'USAGE') AS "isOwn", pg_get_userbyid(c.relowner)::text AS owner,
    EXISTS (SELECT FROM pg_index i WHERE i.indrelid = c.oid AND i.indisprimary) AS "hasPrimaryKey",
    c.relrowsecurity AS "hasRowSecurity",
    EXISTS (SELECT FROM pg_publication_rel pr JOIN pg_publication p ON p.oid = pr.prpubid
      WHERE p.pubname = $3 AND pr.prrelid = c.oid)
      OR EXISTS (SELECT FROM pg_publication p WHERE p.pubname = $3 AND p.puballtables) AS "isPublished",
    EXISTS (SELECT FROM aclexplode(c.relacl) a JOIN pg_roles r ON r.oid = a.grantee
      WHERE r.rolname = $4 AND a.privilege_type = 'SELECT') AS "canRoleSelect",
    coalesce((SELECT has_schema_privilege(r.oid, n.oid, 'USAGE') FROM pg_roles r WHERE r.rolname = $4), false) AS "canRoleUseSchema",
    pg_has_role(n.nspowner, 'USAGE') OR has_schema_privilege(n.oid, 'USAGE WITH GRANT OPTION') AS "canGrantSchema",
    (SELECT json_agg(json_build_object('oid', pc.oid::int8, 'schema', pn.nspname, 'name', pc.relname,
        'identity', pc.relreplident, 'index', (
          SELECT ic.relname FROM pg_index i JOIN pg_class ic ON ic.oid = i.indexrelid
          WHERE i.indrelid = pc.oid AND i.indisreplident)) ORDER BY pc.oid)
     FROM (SELECT c.oid AS relid UNION SELECT relid FROM pg_partition_tree(c.oid)) tree
     JOIN pg_class pc ON pc.oid = tree.relid JOIN pg_namespace pn ON pn.oid = pc.relnamespace
     WHERE pc.relkind IN ('r', 'p')) AS parts
  FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
  WHERE n.nspname = $1 AND c.relname = $2 AND c.relkind NOT IN ('i', 'I', 't', 'c')`;

/** Reads the facts of a table by its exact names; undefined if there is none. */
export async function inspectTable(
  sql: Sql,
  names: {
    readonly schema: string;
    readonly table: string;
    readonly publication: string;
    readonly role: string;
  },
): Promise<InspectedTable | undefined> {
  const values = [names.schema, names.table, names.publication, names.role];
  try {
    const [found] = await sql.query<InspectedTable>(INSPECT, values);
    return found;
  } catch (error) {
    if (isUnstorableText(error)) return undefined;
    throw error;
  }
}

const KINDS: Readonly<Record<string, string>> = {
  v: 'is a view, which has no changes of its own',
  m: 'is a materialized view, which has no changes of its own',
  f: 'is a foreign table, whose changes are not in the WAL of this database',
  S: 'is a sequence',
};

/** Throws TABLE_NOT_ALLOWED, with the reason, for a table whose changes cannot be streamed. */
export function requireStreamable(table: InspectedTable, keepsIdentity: boolean, ownSchema: string): void {
  const problem = problemOf(table, keepsIdentity, ownSchema);
  if (problem === undefined) return;
  throw new ProtocolError('TABLE_NOT_ALLOWED', { details: `${table.schema}.${table.name} ${problem}` });
}

function problemOf(table: InspectedTable, keepsIdentity: boolean, ownSchema: string): string | undefined {
  const { kind, persistence } = table;
  if (table.isSystem) return 'is a system table';
  if (table.schema === ownSchema) return 'belongs to this server itself';
  const ofKind = KINDS[kind];
  if (ofKind !== undefined) return ofKind;
  if (kind !== 'r' && kind !== 'p') return 'is not a table';
  if (persistence === 't') return 'is a temporary table, whose changes are not in the WAL';
  if (persistence === 'u')
    return 'is an unlogged table, whose changes are not in the WAL. Run ALTER TABLE … SET LOGGED';
  if (table.isPartition)
    return `is a partition. Enable ${table.root ?? 'its root table'} instead: changes of partitions are streamed under the root's name`;
  if (!table.isOwn)
    return `belongs to the role ${table.owner}, and only the owner can publish it. GRANT that role to the server's login, or change the owner with ALTER TABLE … OWNER TO`;
  if (kind === 'p' && !table.hasPrimaryKey)
    return 'is partitioned and has no primary key: UPDATE and DELETE of the application would fail on new partitions. Add a primary key';
  const isUnidentified = table.parts.some(
    ({ identity }) => identity === 'n' || (identity === 'd' && !table.hasPrimaryKey),
  );
  if (keepsIdentity && isUnidentified)
    return 'has no key: published with its present replica identity, UPDATE and DELETE of the application would fail. Omit "identity": "keep", or add a primary key';
  return undefined;
}
