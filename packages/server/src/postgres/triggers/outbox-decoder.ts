import type { ChangeSink, WalRelation } from '../source/change-source.js';
import { recordFields } from '../sql/record-text.js';
import type { Batch, OutboxRow, TableShape } from './outbox.js';
import { rowMessage } from './row-message.js';
import { columnsOf, type ShapeColumn } from './row-shape.js';

const KINDS = { I: 'insert', U: 'update', D: 'delete' } as const;

/** Makes of the rows of the outbox what the log of PostgreSQL would tell. */
export class OutboxDecoder {
  /** The last description of each table, and what it was made of. */
  readonly #relations = new Map<number, { readonly key: string; readonly relation: WalRelation }>();

  /** False where the columns of a row cannot be told for certain. */
  hand(sink: ChangeSink, batch: Batch, { kind, tableOid, oldRow, newRow }: OutboxRow): boolean {
    if (kind === 'M') {
      sink.message(Buffer.from(newRow ?? ''));
      return true;
    }
    const shape = batch.shapes[tableOid];
    // A table that was dropped meanwhile has nobody who may see it.
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

  /** The same object as long as nothing about the table changes: another one has its rights and policies read again. */
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
