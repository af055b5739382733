/** The events of a subscription; a TRUNCATE goes to every one of the table. */
export const FILTER_EVENTS = ['INSERT', 'UPDATE', 'DELETE'] as const;
export type FilterEvent = (typeof FILTER_EVENTS)[number];

/** Which changes a subscription wants, as it was asked for, defaults filled in. */
export interface ChangeFilter {
  readonly table: string;
  readonly schema: string;
  readonly events: readonly FilterEvent[];
  /** Missing: all. */
  readonly columns?: readonly string[];
  readonly condition?: string;
}
