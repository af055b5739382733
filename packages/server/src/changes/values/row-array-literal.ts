import type { RowImage } from '../model/row-image.js';

/**
 * Writes row images as the text of an array of composite values, for `$1::schema.table[]` (PostgreSQL manual,
 * "Composite Type Input and Output Syntax"). PostgreSQL's own input functions parse each value. Images have the
 * table's columns in table order; an unknown value becomes NULL, and so does a row that is left out.
 */
export function rowArrayLiteral(images: readonly (RowImage | null)[]): string {
  return `{${images.map((image) => (image === null ? 'NULL' : `"${escaped(rowLiteral(image))}"`)).join(',')}}`;
}

function rowLiteral(image: RowImage): string {
  const fields = image.map((text) => (text === null || text === undefined ? '' : `"${escaped(text)}"`));
  return `(${fields.join(',')})`;
}

const SPECIAL = /["\\]/g;

function escaped(text: string): string {
  return text.includes('"') || text.includes('\\') ? text.replaceAll(SPECIAL, String.raw`\$&`) : text;
}
