/** Quotes an identifier for SQL, always with double quotes. */
export function quoted(name: string): string {
  return `"${name.replaceAll('"', '""')}"`;
}

/** Returns the quoted, schema-qualified name of a table. */
export function qualified({ schema, name }: { readonly schema: string; readonly name: string }): string {
  return `${quoted(schema)}.${quoted(name)}`;
}

/** A text as an SQL literal, whatever `standard_conforming_strings` says. */
export function literal(text: string): string {
  return ` E'${text.replaceAll('\\', '\\\\').replaceAll("'", "''")}'`;
}
