import type { RowImage } from '../model/row-image.js';

/**
 * Row images as the text of an array of composite values, which `$1::schema.table[]` reads back (PostgreSQL manual,
 * "Composite Type Input and Output Syntax"): what PostgreSQL's own input functions make of each text. Images have
 * the table's columns in its order; what is not known is NULL.
 */
export function rowArrayLiteral(images: readonly RowImage[]): string {
  return `{${images.map((image) => `"${escaped(rowLiteral(image))}"`).join(',')}}`;
}

function rowLiteral(image: RowImage): string {
  const fields = image.map((text) => (text === null || text === undefined ? '' : `"${escaped(text)}"`));
  return `(${fields.join(',')})`;
}

const SPECIAL = /["\\]/g;

function escaped(text: string): string {
  return text.includes('"') || text.includes('\\') ? text.replaceAll(SPECIAL, String.raw`\$&`) : text;
}
