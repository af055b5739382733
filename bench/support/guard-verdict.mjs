/** A measure whose baseline's own rounds differ by more than this share says nothing. */
const MAX_BASELINE_SPREAD = 0.25;
/** How far beyond its bound a round may be, as a share of the bound. */
const TOLERANCE = 1 / 3;

/**
 * Decides on one measure. `rounds` has the value of the server and of the baseline in each round; `bound` is a recorded
 * ratio of the two. The result is `void` if the baseline differs too much between rounds, and `failed` if the ratio of
 * every round is beyond the limit: the bound and a third of it.
 * @param {import('./guard-verdict.d.mts').Measure} measure
 * @returns {ReturnType<typeof import('./guard-verdict.d.mts').verdict>}
 */
export function verdict({ better, bound, rounds }) {
  const ratios = rounds.map(({ ours, baseline }) => ours / baseline);
  const limit = bound * (better === 'higher' ? 1 - TOLERANCE : 1 + TOLERANCE);
  const baselines = rounds.map(({ baseline }) => baseline);
  const spread = Math.max(...baselines) / Math.min(...baselines) - 1;
  const isBeyond = (ratio) => (better === 'higher' ? ratio < limit : ratio > limit);
  const result = { ratios, limit, spread };
  // A value that is no number is never beyond, and must not pass.
  if (!(spread <= MAX_BASELINE_SPREAD)) return { status: 'void', ...result };
  return { status: ratios.length > 0 && ratios.every(isBeyond) ? 'failed' : 'passed', ...result };
}
