import type { ChangeSink, WalRelation } from '../source/change-source.js';
import { recordFields } from '../sql/record-text.js';
import type { OutboxBatch, OutboxRow, TableShape } from './outbox.js';
import { rowMessage } from './pgoutput-encoder.js';
import { columnsOf, type ShapeColumn } from './row-shape.js';

const KINDS = { I: 'insert', U: 'update', D: 'delete' } as const;

/** Converts rows of the outbox into the calls that reading the WAL would make on the sink. */
export class OutboxDecoder {
  /** The last relation of each table, by oid, and the key that it was built from. */
  readonly #relations = new Map<number, { readonly key: string; readonly relation: WalRelation }>();

  /**
   * Passes a row to the sink. Returns false where the columns of the row cannot be determined for certain.
   */
  deliver(sink: ChangeSink, batch: OutboxBatch, { kind, tableOid, oldRow, newRow }: OutboxRow): boolean {
    if (kind === 'M') {
      sink.message(Buffer.from(newRow ?? ''));
      return true;
    }
    const shape = batch.shapes[tableOid];
    // The table was dropped meanwhile, so nobody can see the row.
    if (shape === undefined) return true;
    if (kind === 'T') {
      sink.truncate([this.#relation(tableOid, shape, shape.now.columns)]);
      return true;
    }
    const fields = recordFields(newRow ?? oldRow ?? '()').length;
    const columns = columnsOf(fields, shape.before ?? undefined, shape.now);
    if (columns === undefined) return false;
    const relation = this.#relation(tableOid, shape, columns);
    const rows = { old: oldRow, new: newRow };
    sink.change(KINDS[kind], relation, rowMessage(KINDS[kind], relation.oid, columns, rows));
    return true;
  }

  /**
   * Returns the same object while the table is unchanged: for a new object its privileges and policies are
   * read again.
   */
  #relation(
    tableOid: number,
    { oid, schema, name, version }: TableShape,
    columns: readonly ShapeColumn[],
  ): WalRelation {
    const key = JSON.stringify([oid, schema, name, version, columns]);
    const known = this.#relations.get(tableOid);
    if (known?.key === key) return known.relation;
    const relation: WalRelation = {
      oid,
      schema,
      name,
      identity: 'f',
      columns: columns
        .filter(({ isGenerated }) => !isGenerated)
        .map((column) => ({
          name: column.name,
          typeOid: column.typeOid,
          typeModifier: column.typeModifier,
          isKey: true,
        })),
    };
    this.#relations.set(tableOid, { key, relation });
    return relation;
  }
}
