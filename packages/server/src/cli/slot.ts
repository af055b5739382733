import { closeMatch } from '../lib/nearest-word.js';
import { StartupError } from '../lib/startup-error.js';
import type { Database } from '../postgres/connection/database.js';
import type { Command } from './command.js';
import { parseArguments } from './parse-arguments.js';
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

/** `slot`: shows, recreates or drops the server's replication slot. */
export const slot: Command = {
  name: 'slot',
  summary: 'Show, reset or drop the replication slot',
  usage: '[show | reset | drop] [--<setting> <value>]...',
  help: () => `PostgreSQL keeps WAL for the replication slot (REALTIME_REPLICATION_SLOT) until the server has read it.

  show    Prints who reads the slot, how far it was read, and how much WAL it retains (default).
  reset   Drops and recreates the slot at the current WAL position. Changes that were not read yet are lost, and
          the server reports a gap to its clients. Use it when the slot retains too much WAL.
  drop    Drops the slot and the server's record of it. Use it when a server is removed for good.

Stop the server before reset and drop. Takes the flags of start. Exits 0 on success, 1 on failure, 2 for invalid
arguments.`,
  run: async (args) => {
    const [first = 'show', ...rest] = args;
    const action = ACTIONS.find((name) => name === first);
    if (action === undefined && !first.startsWith('-'))
      throw new StartupError(unknownAction(first), { exitCode: 2 });
    const { settings } = parseArguments(action === undefined ? args : rest).loaded;
    const name = settings.replicationSlot;
    const lines = await withDatabase(settings, (database) => act(action ?? 'show', database, name));
    process.stdout.write(`${lines.join('\n')}\n`);
    return 0;
  },
};

function unknownAction(name: string): string {
  const meant = closeMatch(name, ACTIONS);
  const suggestion = meant === undefined ? '' : ` Did you mean ${meant}?`;
  return `Unknown action ${JSON.stringify(name)}.${suggestion} The actions are ${ACTIONS.join(', ')}.`;
}

async function act(action: Action, database: Database, name: string): Promise<string[]> {
  const found = await slotRow(database, name);
  if (action === 'show')
    return found === undefined ? [`Slot ${name} does not exist.`] : show(database, name, found);
  if (found !== undefined && found.active_pid !== null)
    throw new StartupError(
      `Slot ${name} is in use by a server (PostgreSQL process ${found.active_pid}). Stop that server first.`,
    );
  if (found !== undefined) await database.query('SELECT pg_drop_replication_slot($1)', [name]);
  if (action === 'reset') {
    await database.query(`SELECT pg_create_logical_replication_slot($1, 'pgoutput')`, [name]);
    return [
      `Slot ${name} was recreated at the current WAL position. The server reports a gap to its clients when it starts.`,
    ];
  }
  await database.query(`DELETE FROM ${database.schema}.streams WHERE slot = $1`, [name]);
  return [found === undefined ? `Slot ${name} does not exist.` : `Slot ${name} was dropped.`];
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
    ['in use by', row.active_pid === null ? 'no server' : `PostgreSQL process ${row.active_pid}`],
    ['confirmed LSN', row.confirmed],
    ['retained WAL', `${megabytes(row.retained)} (${row.wal_status})`],
    ...(row.safe === null ? [] : [['WAL left', `${megabytes(row.safe)} until the slot is lost`] as const]),
    ...(row.xmin_age === null
      ? []
      : [['xmin age', `${row.xmin_age} transactions that VACUUM cannot clean up`] as const]),
    ...(stream === undefined
      ? []
      : [
          ['stored LSN', `${stream.acknowledged}, at ${stream.updated_at.toISOString()}`] as const,
          ['change epoch', `${stream.epoch}, slot created ${stream.generation} times`] as const,
        ]),
  ];
  const width = Math.max(...facts.map(([label]) => label.length));
  return facts.map(([label, text]) => `${label.padEnd(width)}  ${text}`);
}

function megabytes(bytes: number): string {
  return `${(bytes / 1024 / 1024).toFixed(1)} MB`;
}
