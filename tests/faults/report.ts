import { appendFileSync } from 'node:fs';
import type { PostgresVersion } from '../support/matrix.js';
import type { Outcome } from './fault-run.js';

/** The fault of a run and its outcome. */
export interface ScenarioResult {
  readonly id: string;
  readonly what: string;
  readonly postgres: PostgresVersion;
  readonly seed: number;
  readonly outcome: Outcome;
}

/** Appends a line to the file named by FAULT_REPORT, from which `npm run test:faults` writes its report. */
export function report(result: ScenarioResult): void {
  const file = process.env.FAULT_REPORT;
  if (file !== undefined) appendFileSync(file, `${JSON.stringify(result)}\n`);
}
