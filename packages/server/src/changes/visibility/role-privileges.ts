import type { Compilation } from './compiling/compiled-expression.js';

/** The privileges of a database role on a table, and which of its rows the role sees. */
export interface RolePrivileges {
  /** False: no change of the table reaches this role. */
  readonly canSelect: boolean;
  /** The names of the columns that it may read. */
  readonly columns: ReadonlySet<string>;
  /** `all`: row level security does not apply; `none`: no policy lets a row pass; `filtered`: policies decide. */
  readonly rows: 'all' | 'none' | 'filtered';
  /** The names of the columns that policies read; empty unless `rows` is `filtered`. */
  readonly reads: ReadonlySet<string>;
  /** The policies that apply to the role. */
  readonly policies: readonly Policy[];
  /** Whether policies are evaluated in process, or why only PostgreSQL can evaluate them. */
  readonly policyCompilation: Compilation;
}

/** A row level security policy that applies to a role. */
export interface Policy {
  readonly name: string;
  readonly permissive: boolean;
  /** As `pg_get_expr` prints it. */
  readonly expression: string;
}
