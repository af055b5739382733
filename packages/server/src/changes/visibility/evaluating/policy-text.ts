/** Literals and quoted names, which are passed over, and what is looked for: a setting, or a call without arguments. */
const TOKENS =
  /'(?:[^']|'')*'|"(?:[^"]|"")*"|(?<![\w.$"])(current_setting\('(?:[^']|'')*'::text(?:, (?:true|false))?\))|(?<![\w.$"])((?:[a-z_][a-z0-9_$]*\.)?[a-z_][a-z0-9_$]*\(\))/g;

/** The names of the functions that an expression calls without arguments, qualified as they stand there. */
export function callsWithoutArguments(expression: string): string[] {
  const names = new Set<string>();
  for (const [, , call] of expression.matchAll(TOKENS)) if (call !== undefined) names.add(call.slice(0, -2));
  return [...names];
}

/**
 * The expression with everything that is the same for all rows, the context's settings and the calls of these
 * stable functions, as a sub-select: PostgreSQL evaluates that once for each context, and only when it is needed.
 * `expression` is what `pg_get_expr` printed.
 */
export function withSubSelects(expression: string, stable: ReadonlySet<string>): string {
  return expression.replace(TOKENS, (text: string, setting?: string, call?: string) => {
    if (setting !== undefined) return `(SELECT ${setting})`;
    return call !== undefined && stable.has(call.slice(0, -2)) ? `(SELECT ${call})` : text;
  });
}
