/** Matches literals and quoted names, to skip them, settings, and calls without arguments. */
const TOKENS =
  /'(?:[^']|'')*'|"(?:[^"]|"")*"|(?<![\w.$"])(current_setting\('(?:[^']|'')*'::text(?:, (?:true|false))?\))|(?<![\w.$"])((?:[a-z_][a-z0-9_$]*\.)?[a-z_][a-z0-9_$]*\(\))/g;

/**
 * Returns the names of the functions that an expression calls without arguments, qualified as in the
 * expression.
 */
export function callsWithoutArguments(expression: string): string[] {
  const names = new Set<string>();
  for (const [, , call] of expression.matchAll(TOKENS)) if (call !== undefined) names.add(call.slice(0, -2));
  return [...names];
}

/**
 * Wraps settings and calls of these stable functions, which are the same for all rows, in sub-selects:
 * PostgreSQL evaluates each once per viewer, and only when it is needed. `expression`: as `pg_get_expr`
 * prints it.
 */
export function withSubSelects(expression: string, stable: ReadonlySet<string>): string {
  return expression.replace(TOKENS, (text: string, setting?: string, call?: string) => {
    if (setting !== undefined) return `(SELECT ${setting})`;
    return call !== undefined && stable.has(call.slice(0, -2)) ? `(SELECT ${call})` : text;
  });
}
