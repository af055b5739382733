/**
 * One version of a row as the write-ahead log has it: the text of each column, in the order of the columns of the
 * table that it is for. `null` is SQL's NULL; `undefined` is not known (an unchanged large value that the log
 * leaves out, or a column outside the replica identity).
 */
export type RowImage = readonly (string | null | undefined)[];
