import { appendFileSync } from 'node:fs';
import type { PostgresVersion } from '../support/matrix.js';
import type { Outcome } from './fault-run.js';

/** What was done in a run, and what was seen. */
export interface Finding {
  readonly id: string;
  readonly what: string;
  readonly postgres: PostgresVersion;
  readonly seed: number;
  readonly outcome: Outcome;
}

/** Adds a line to the file that FAULT_REPORT names; `npm run test:faults` makes a page of it. */
export function report(finding: Finding): void {
  const file = process.env.FAULT_REPORT;
  if (file !== undefined) appendFileSync(file, `${JSON.stringify(finding)}\n`);
}
