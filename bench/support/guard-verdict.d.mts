/** The types of `guard-verdict.mjs`, for its test. */
export interface Measure {
  readonly better: 'higher' | 'lower';
  readonly bound: number;
  readonly rounds: readonly { readonly ours: number; readonly baseline: number }[];
}

export function verdict(measure: Measure): {
  readonly status: 'passed' | 'failed' | 'void';
  readonly ratios: readonly number[];
  readonly limit: number;
  readonly spread: number;
};
