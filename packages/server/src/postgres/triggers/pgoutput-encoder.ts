import { recordFields } from '../sql/record-text.js';
import type { ShapeColumn } from './row-shape.js';

const KINDS = { insert: 'I', update: 'U', delete: 'D' } as const;

/**
 * Encodes a change as a pgoutput message (PostgreSQL manual, "Logical Replication Message Formats") from the
 * texts of composite values, so that all consumers read one format. Generated columns are left out, as in the
 * WAL.
 */
export function rowMessage(
  kind: keyof typeof KINDS,
  relationOid: number,
  columns: readonly ShapeColumn[],
  rows: { readonly old: string | null; readonly new: string | null },
): Buffer {
  const head = Buffer.alloc(5);
  head.write(KINDS[kind], 'latin1');
  head.writeUInt32BE(relationOid, 1);
  const parts = [head];
  if (rows.old !== null) addTuple(parts, 'O', columns, rows.old);
  if (rows.new !== null) addTuple(parts, 'N', columns, rows.new);
  return Buffer.concat(parts);
}

function addTuple(parts: Buffer[], tag: 'O' | 'N', columns: readonly ShapeColumn[], text: string): void {
  const fields = recordFields(text);
  const head = Buffer.alloc(3);
  head.write(tag, 'latin1');
  head.writeUInt16BE(columns.filter(({ isGenerated }) => !isGenerated).length, 1);
  parts.push(head);
  columns.forEach(({ isGenerated }, index) => {
    if (isGenerated) return;
    const value = fields[index];
    if (value === undefined || value === null) {
      parts.push(Buffer.from('n'));
      return;
    }
    const bytes = Buffer.from(value);
    const prefix = Buffer.alloc(5);
    prefix.write('t', 'latin1');
    prefix.writeUInt32BE(bytes.length, 1);
    parts.push(prefix, bytes);
  });
}
