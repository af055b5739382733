/**
 * One version of a row as the WAL has it: the text of each column, in the column order of its table. `null`
 * is SQL NULL. `undefined` is an unknown value: an unchanged TOAST value that the WAL leaves out, or a column
 * outside the replica identity.
 */
export type RowImage = readonly (string | null | undefined)[];
