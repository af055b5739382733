import type { Settings } from '../config/settings-table.js';
import type { Finding } from '../postgres/change-source.js';
import { findingsOf, triggerFindingsOf, whyNotLogical } from '../postgres/replication/preflight.js';
import { preflightFacts } from '../postgres/replication/preflight-facts.js';
import { ensureSubscriberRole } from '../postgres/replication/subscriber-role.js';
import type { Command } from './command.js';
import { settingsOfArguments } from './settings-of-arguments.js';
import { withDatabase } from './with-database.js';

/** `doctor`: what stands in the way of row changes, and what mends it. */
export const doctor: Command = {
  name: 'doctor',
  summary: 'Tell what keeps row changes from being read, and what mends it',
  help: () => `Usage: goforward-realtime doctor [--<setting> <value>]...

Connects to PostgreSQL as the server would, the one of DATABASE_URL or the embedded one of the data folder while
it runs, and prints every finding with its number and the SQL or setting that mends it. Takes the same flags
as start. Exits 0 when nothing is wrong (warnings aside), else 1.`,
  run: async (args) => {
    const { settings } = settingsOfArguments(args).loaded;
    const { findings, source, reason } = await examine(settings);
    if (source === 'trigger')
      process.stdout.write(
        `Row changes are read by triggers: ${reason ?? 'REALTIME_CHANGE_SOURCE says so'}.\n`,
      );
    for (const { code, severity, title, advice } of findings)
      process.stdout.write(`${code} ${severity}: ${title}\n  ${advice}\n`);
    if (findings.length === 0) process.stdout.write('Nothing keeps row changes from being read.\n');
    return findings.some(({ severity }) => severity === 'error') ? 1 : 0;
  },
};

interface Examined {
  readonly findings: readonly Finding[];
  readonly source: 'logical' | 'trigger';
  /** Why auto chose triggers. */
  readonly reason?: string | undefined;
}

function examine(settings: Settings): Promise<Examined> {
  return withDatabase(settings, async (database) => {
    await ensureSubscriberRole(database);
    const names = {
      slot: settings.replicationSlot,
      publication: settings.publicationName,
      schema: database.schema,
    };
    const facts = await preflightFacts(database, names);
    const { changeSource } = settings;
    const reason = changeSource === 'auto' ? whyNotLogical(facts, names) : undefined;
    return changeSource === 'trigger' || reason !== undefined
      ? { source: 'trigger', reason, findings: triggerFindingsOf(facts, names) }
      : { source: 'logical', findings: findingsOf(facts, names) };
  });
}
