/** A column of a table, as the catalog numbers it: a number is never used twice. */
export interface ShapeColumn {
  readonly number: number;
  readonly name: string;
  readonly typeOid: number;
  readonly typeModifier: number;
  readonly isGenerated: boolean;
}

/** What a row's text consists of, at one time. */
export interface RowShape {
  /** The highest number that a column has had, dropped ones too. */
  readonly highest: number;
  /** Those that are there, in their order. */
  readonly columns: readonly ShapeColumn[];
}

/**
 * The columns of a row text of so many fields, written at some time between two looks at the catalog; undefined where
 * that cannot be told for certain. `before` is missing where there was no earlier look.
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
  // Columns were added: when none went, each state in between was a beginning of what is there now.
  const added = now.highest - before.highest;
  const isGrown = now.columns.length === before.columns.length + added;
  return isGrown && fields >= before.columns.length && fields <= now.columns.length
    ? now.columns.slice(0, fields)
    : undefined;
}
