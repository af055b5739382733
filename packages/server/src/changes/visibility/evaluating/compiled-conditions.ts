import type { Compilation } from '../compiling/compiled-expression.js';

/** How many characters of conditions are kept: users write them, as many as they like one after the other. */
const MAX_CHARACTERS = 1_000_000;

/** Keeps compiled conditions by their SQL. Those that were asked for longest ago are forgotten, and compiled again. */
export class CompiledConditions {
  readonly #compiled = new Map<string, Promise<Compilation>>();
  readonly #maxCharacters: number;
  #characters = 0;

  constructor(maxCharacters = MAX_CHARACTERS) {
    this.#maxCharacters = maxCharacters;
  }

  of(sql: string, compile: () => Promise<Compilation>): Promise<Compilation> {
    const known = this.#compiled.get(sql);
    const compiled = known ?? compile();
    if (known === undefined) compiled.catch(() => this.#forget(sql));
    this.#forget(sql);
    this.#compiled.set(sql, compiled);
    this.#characters += sql.length;
    for (const oldest of this.#compiled.keys()) {
      if (this.#characters <= this.#maxCharacters) break;
      this.#forget(oldest);
    }
    return compiled;
  }

  #forget(sql: string): void {
    if (this.#compiled.delete(sql)) this.#characters -= sql.length;
  }
}
