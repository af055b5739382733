import type { Authorizer } from '../visibility/authorizer.js';
import { TIERS, type Tier, tiersOf } from './tiers.js';

export interface TierCountsParts {
  readonly authorizer: Pick<Authorizer, 'facts' | 'privileges'>;
  /** The enabled tables. */
  readonly tables: () => readonly { readonly oid: number }[];
}

/** Counts the enabled tables in each tier, for the default role. */
export class TierCounts {
  readonly #parts: TierCountsParts;
  #counts: ReadonlyMap<Tier, number> = new Map();

  constructor(parts: TierCountsParts) {
    this.#parts = parts;
  }

  /** Every tier with the number of its tables, as of the last `refresh`. */
  list(): readonly (readonly [Tier, number])[] {
    return TIERS.map((tier) => [tier, this.#counts.get(tier) ?? 0] as const);
  }

  async refresh(): Promise<void> {
    const counts = new Map<Tier, number>();
    for (const { oid } of this.#parts.tables()) {
      const [tier] = await tiersOf(this.#parts.authorizer, oid, []);
      if (tier !== undefined) counts.set(tier.tier, (counts.get(tier.tier) ?? 0) + 1);
    }
    this.#counts = counts;
  }
}
