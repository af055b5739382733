import { StartupError } from '../lib/startup-error.js';
import type { Database } from '../postgres/connection/database.js';
import type { Command } from './command.js';
import { settingsOfArguments } from './settings-of-arguments.js';
import { withDatabase } from './with-database.js';

interface SlotRow {
  readonly plugin: string;
  readonly database: string;
  readonly active_pid: number | null;
  readonly wal_status: string;
  readonly confirmed: string;
  readonly retained: number;
  readonly safe: number | null;
  readonly xmin_age: number | null;
}

interface StreamRow {
  readonly epoch: string;
  readonly generation: number;
  readonly acknowledged: string;
  readonly updated_at: Date;
}

const ACTIONS = ['show', 'reset', 'drop'] as const;
type Action = (typeof ACTIONS)[number];

/** `slot`: the replication slot of a server, looked at, made anew, or taken away. */
export const slot: Command = {
  name: 'slot',
  summary: 'Show, reset or drop the replication slot',
  help: () => `Usage: goforward-realtime slot [show | reset | drop] [--<setting> <value>]...

The replication slot of REALTIME_REPLICATION_SLOT keeps PostgreSQL's log until the server has read it.

  show    What it keeps, how far it was read, and who reads it.
  reset   Makes it anew, from now on. What was not read yet is lost, and the server tells its clients of the
          gap. For a slot that keeps too much.
  drop    Takes it away, with what the server remembers of it. For a server that does not come back.

reset and drop want the server to be stopped. Takes the same flags as start.`,
  run: async (args) => {
    const [first = 'show', ...rest] = args;
    const action = ACTIONS.find((name) => name === first);
    if (action === undefined && !first.startsWith('-'))
      throw new StartupError(`There is no slot ${first}. There are ${ACTIONS.join(', ')}.`, { exitCode: 2 });
    const { settings } = settingsOfArguments(action === undefined ? args : rest).loaded;
    const name = settings.replicationSlot;
    const lines = await withDatabase(settings, (database) => act(action ?? 'show', database, name));
    process.stdout.write(`${lines.join('\n')}\n`);
    return 0;
  },
};

async function act(action: Action, database: Database, name: string): Promise<string[]> {
  const found = await slotRow(database, name);
  if (action === 'show')
    return found === undefined ? [`There is no slot ${name}.`] : show(database, name, found);
  if (found !== undefined && found.active_pid !== null)
    throw new StartupError(
      `A server reads the slot ${name} (PostgreSQL's process ${found.active_pid}). Stop it first.`,
    );
  if (found !== undefined) await database.query('SELECT pg_drop_replication_slot($1)', [name]);
  if (action === 'reset') {
    await database.query(`SELECT pg_create_logical_replication_slot($1, 'pgoutput')`, [name]);
    return [`The slot ${name} begins now. The server tells its clients of the gap when it starts.`];
  }
  await database.query(`DELETE FROM ${database.schema}.streams WHERE slot = $1`, [name]);
  return [found === undefined ? `There is no slot ${name}.` : `The slot ${name} is dropped.`];
}

async function slotRow(database: Database, name: string): Promise<SlotRow | undefined> {
  const [row] = await database.query<SlotRow>(
    `SELECT plugin, database, active_pid, wal_status, confirmed_flush_lsn::text AS confirmed,
            (pg_current_wal_insert_lsn() - restart_lsn)::float8 AS retained, safe_wal_size::float8 AS safe,
            age(catalog_xmin) AS xmin_age
     FROM pg_replication_slots WHERE slot_name = $1`,
    [name],
  );
  return row;
}

async function show(database: Database, name: string, row: SlotRow): Promise<string[]> {
  const [stream] = await database.query<StreamRow>(
    `SELECT epoch, generation, acknowledged::text, updated_at FROM ${database.schema}.streams WHERE slot = $1`,
    [name],
  );
  const facts: readonly (readonly [string, string])[] = [
    ['slot', `${name} (${row.plugin}, database ${row.database})`],
    ['read by', row.active_pid === null ? 'nobody' : `PostgreSQL's process ${row.active_pid}`],
    ['confirmed', row.confirmed],
    ['keeps', `${megabytes(row.retained)} of the log (${row.wal_status})`],
    ...(row.safe === null ? [] : [['may keep', `${megabytes(row.safe)} more`] as const]),
    ...(row.xmin_age === null ? [] : [['holds back vacuum', `${row.xmin_age} transactions`] as const]),
    ...(stream === undefined
      ? []
      : [
          ['stored', `${stream.acknowledged}, at ${stream.updated_at.toISOString()}`] as const,
          ['history', `${stream.epoch}, slot made ${stream.generation} times`] as const,
        ]),
  ];
  const width = Math.max(...facts.map(([label]) => label.length));
  return facts.map(([label, text]) => `${label.padEnd(width)}  ${text}`);
}

function megabytes(bytes: number): string {
  return `${(bytes / 1024 / 1024).toFixed(1)} MB`;
}
