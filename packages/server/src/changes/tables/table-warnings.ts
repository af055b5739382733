import type { SourceKind } from '../../postgres/choice/source-choice.js';
import type { InspectedTable } from './table-inspection.js';

/** Returns what an operator should know about a table that has been enabled. */
export function warningsFor(
  table: InspectedTable,
  kind: SourceKind,
  keepsIdentity: boolean,
  isCustom: boolean,
): string[] {
  const warnings = kind === 'logical' ? identityWarnings(table, keepsIdentity) : [];
  if (isCustom)
    warnings.push(
      'The table has a hand-made trigger. Its changes arrive by NOTIFY: a change over 8,000 bytes makes the INSERT itself fail, changes are lost while no server listens, and any login can forge them. Run DROP TRIGGER and POST again: the new trigger loses nothing.',
    );
  if (!table.hasRowSecurity)
    warnings.push(
      'Row level security is off for this table: every member of a subscribed channel sees all of its rows.',
    );
  return warnings;
}

function identityWarnings(table: InspectedTable, keepsIdentity: boolean): string[] {
  const warnings: string[] = [];
  if (!keepsIdentity && table.parts.some(({ identity }) => identity !== 'f'))
    warnings.push(
      'REPLICA IDENTITY FULL was set: each UPDATE and DELETE writes the whole old row to the WAL, large values too. {"identity": "keep"} leaves the replica identity unchanged.',
    );
  if (keepsIdentity && table.parts.some(({ identity }) => identity !== 'f'))
    warnings.push(
      'Without REPLICA IDENTITY FULL only the key of an old row is known: an UPDATE has no old values and does not report that a row left the view, and a DELETE is sent only if policies and conditions read key columns alone.',
    );
  return warnings;
}
