import type { Compilation } from './compiling/compiled-expression.js';

/** What one database role may do with a table, and which of its rows it sees. */
export interface RolePrivileges {
  /** False: no change of the table reaches this role. */
  readonly canSelect: boolean;
  /** The names of the columns that it may read. */
  readonly columns: ReadonlySet<string>;
  /** `all`: row level security does not apply to it; `none`: no policy lets any row pass. */
  readonly rows: 'all' | 'none' | 'filtered';
  /** The names of the columns that the judgement reads; empty unless judged. */
  readonly reads: ReadonlySet<string>;
  /** The policies that apply to it. */
  readonly policies: readonly Policy[];
  /** Where rows are judged. */
  readonly policyCompilation: Compilation;
}

/** One that applies to the role. */
export interface Policy {
  readonly name: string;
  readonly permissive: boolean;
  /** As `pg_get_expr` prints it. */
  readonly expression: string;
}
