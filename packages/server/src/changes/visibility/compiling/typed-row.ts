import type { RowImage } from '../../model/row-image.js';
import { LikeSearch } from './like-search.js';
import type { Family, Value } from './type-families.js';

/** How many steps the evaluations of one row may take together in one tick: a few milliseconds. */
const STEPS_PER_ROW = 2_000_000;

/**
 * A row whose values are parsed once, however often they are compared. It counts the steps of evaluations whose time grows
 * with its values, so that a large value cannot stop the process, however many predicates read it.
 */
export class TypedRow {
  readonly #image: RowImage;
  readonly #values: (Value | null | undefined)[] = [];
  readonly #stepsPerRow: number;
  readonly #bits: Int32Array | undefined;
  #search: LikeSearch | undefined;

  /** `bits`: shared by the searches in several rows. */
  constructor(image: RowImage, bits?: Int32Array, stepsPerRow = STEPS_PER_ROW) {
    this.#image = image;
    this.#bits = bits;
    this.#stepsPerRow = stepsPerRow;
  }

  /** The search in the values of this row, which has the remaining steps. */
  get search(): LikeSearch {
    this.#search ??= new LikeSearch(this.#stepsPerRow, this.#bits);
    return this.#search;
  }

  /** How many steps are left. */
  get steps(): number {
    return this.#search?.steps ?? this.#stepsPerRow;
  }

  /** Allows the steps of another tick. */
  refill(): void {
    this.search.steps = this.#stepsPerRow;
  }

  /** Takes steps; returns false if there are not enough left. */
  take(steps: number): boolean {
    if (this.search.steps < steps) return false;
    this.search.steps -= steps;
    return true;
  }

  text(columnIndex: number): string | null {
    const text = this.#image[columnIndex];
    if (text === undefined) throw new Error('the value of the column is not known');
    return text;
  }

  value(columnIndex: number, family: Family): Value | null {
    let value = this.#values[columnIndex];
    if (value === undefined) {
      const text = this.text(columnIndex);
      value = text === null ? null : family.parse(text);
      this.#values[columnIndex] = value;
    }
    return value;
  }
}
