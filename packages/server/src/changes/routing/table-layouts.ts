import type { WalRelation } from '../../postgres/source/change-source.js';
import type { ValueFormats } from '../values/value-formats.js';
import type { Authorizer } from '../visibility/authorizer.js';
import type { Deadline } from '../visibility/deadline.js';
import { TableLayout } from './table-layout.js';

/** Keeps, for each relation that the WAL has described, how its columns map to those of the catalog. */
export class TableLayouts {
  readonly #authorizer: Pick<Authorizer, 'described' | 'facts'>;
  readonly #formats: ValueFormats;
  readonly #layouts = new WeakMap<WalRelation, TableLayout>();

  constructor(authorizer: Pick<Authorizer, 'described' | 'facts'>, formats: ValueFormats) {
    this.#authorizer = authorizer;
    this.#formats = formats;
  }

  /** Returns undefined when the table has been dropped. Throws NotDecided after the deadline. */
  async of(relation: WalRelation, deadline?: Deadline): Promise<TableLayout | undefined> {
    const known = this.#layouts.get(relation);
    this.#authorizer.described(relation);
    const facts = await this.#authorizer.facts(relation.oid, deadline);
    if (facts === undefined) return undefined;
    if (known?.facts === facts) return known;
    const loading = this.#formats.load(relation.columns.map(({ typeOid }) => typeOid));
    await (deadline === undefined ? loading : deadline.within(loading));
    const layout = new TableLayout(relation, facts, this.#formats);
    this.#layouts.set(relation, layout);
    return layout;
  }
}
