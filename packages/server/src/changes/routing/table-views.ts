import type { WalRelation } from '../../postgres/source/change-source.js';
import type { ValueFormats } from '../values/value-formats.js';
import type { Authorizer } from '../visibility/authorizer.js';
import { TableView } from './table-view.js';

/** Keeps, for each relation that the WAL has described, how its columns map to those of the catalog. */
export class TableViews {
  readonly #authorizer: Pick<Authorizer, 'facts'>;
  readonly #formats: ValueFormats;
  readonly #views = new WeakMap<WalRelation, TableView>();

  constructor(authorizer: Pick<Authorizer, 'facts'>, formats: ValueFormats) {
    this.#authorizer = authorizer;
    this.#formats = formats;
  }

  /** Returns undefined when the table has been dropped. */
  async of(relation: WalRelation): Promise<TableView | undefined> {
    const known = this.#views.get(relation);
    const facts = await this.#authorizer.facts(relation.oid);
    if (facts === undefined) return undefined;
    if (known?.facts === facts) return known;
    await this.#formats.load(relation.columns.map(({ typeOid }) => typeOid));
    const view = new TableView(relation, facts, this.#formats);
    this.#views.set(relation, view);
    return view;
  }
}
