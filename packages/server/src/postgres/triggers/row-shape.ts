/** A column of a table. `number` is its `attnum`, which PostgreSQL never reuses. */
export interface ShapeColumn {
  readonly number: number;
  readonly name: string;
  readonly typeOid: number;
  readonly typeModifier: number;
  readonly isGenerated: boolean;
}

/** The columns of a table at one time, which the text of a row consists of. */
export interface RowShape {
  /** The highest column number so far, including dropped columns. */
  readonly highest: number;
  /** The existing columns, in order. */
  readonly columns: readonly ShapeColumn[];
}

/**
 * Returns the columns of a row text with `fields` fields that was written at some time between two reads of
 * the catalog, `before` and `now`. Returns undefined where they cannot be determined for certain. `before` is
 * missing at the first read.
 */
export function columnsOf(
  fields: number,
  before: RowShape | undefined,
  now: RowShape,
): readonly ShapeColumn[] | undefined {
  const wasAdded = before !== undefined && now.highest > before.highest;
  if (!wasAdded) {
    if (fields === now.columns.length) return now.columns;
    return fields === before?.columns.length ? before.columns : undefined;
  }
  // Columns were added. If none was dropped, every state in between was a prefix of the current columns.
  const added = now.highest - before.highest;
  const isGrown = now.columns.length === before.columns.length + added;
  return isGrown && fields >= before.columns.length && fields <= now.columns.length
    ? now.columns.slice(0, fields)
    : undefined;
}
