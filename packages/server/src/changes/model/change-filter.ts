/** The events that a subscription can select. A TRUNCATE goes to every subscription of its table. */
export const FILTER_EVENTS = ['INSERT', 'UPDATE', 'DELETE'] as const;
export type FilterEvent = (typeof FILTER_EVENTS)[number];

/** Selects the changes of one subscription: the request of the subscriber with the defaults filled in. */
export interface ChangeFilter {
  readonly table: string;
  readonly schema: string;
  readonly events: readonly FilterEvent[];
  /** The columns to send; missing: all. */
  readonly columns?: readonly string[];
  /** A boolean SQL expression over the row, as the subscriber wrote it; missing: every row. */
  readonly condition?: string;
}
