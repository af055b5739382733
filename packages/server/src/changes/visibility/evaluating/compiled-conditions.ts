import type { Compilation } from '../compiling/compiled-expression.js';

/** How many conditions of a table are kept, and how many characters of them: users choose them. */
const MAX_CONDITIONS = 1_000;
const MAX_CHARACTERS = 1_000_000;

/** Keeps compiled conditions by their SQL, for other subscriptions with the same one. The oldest are forgotten first. */
export class CompiledConditions {
  readonly #compiled = new Map<string, Promise<Compilation>>();
  readonly #maxCharacters: number;
  #characters = 0;

  constructor(maxCharacters = MAX_CHARACTERS) {
    this.#maxCharacters = maxCharacters;
  }

  of(sql: string, compile: () => Promise<Compilation>): Promise<Compilation> {
    const known = this.#compiled.get(sql);
    if (known !== undefined) return known;
    const compiled = compile();
    compiled.catch(() => this.#forget(sql));
    this.#compiled.set(sql, compiled);
    this.#characters += sql.length;
    for (const oldest of this.#compiled.keys()) {
      if (this.#compiled.size <= MAX_CONDITIONS && this.#characters <= this.#maxCharacters) break;
      this.#forget(oldest);
    }
    return compiled;
  }

  #forget(sql: string): void {
    if (this.#compiled.delete(sql)) this.#characters -= sql.length;
  }
}
