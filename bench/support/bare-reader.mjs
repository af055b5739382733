import pg from 'pg';
import { VoidRun } from './void-run.mjs';

/** Types of copy data messages, and of messages of pgoutput that are rows (PostgreSQL manual, "Streaming Replication Protocol"). */
const XLOG_DATA = code('w');
const [INSERT, UPDATE, DELETE] = [code('I'), code('U'), code('D')];
/** Type, start and end of the WAL, and time: what precedes the message of pgoutput. */
const HEADER_BYTES = 25;
/** Rows that have not arrived by then are lost. */
const TIMEOUT_MS = 60_000;

/**
 * Reads a replication slot from its begin and does nothing but count rows: the least that a reader in Node costs. Returns
 * the seconds until the last of `rows` rows has arrived.
 * @param {{ databaseUrl: string }} server
 * @param {{ slot: string, publication: string, rows: number }} options
 */
export async function countRows({ databaseUrl }, { slot, publication, rows }) {
  const client = new pg.Client({ connectionString: databaseUrl, replication: 'database' });
  client.on('error', () => undefined);
  await client.connect();
  try {
    const started = performance.now();
    await new Promise((resolve, reject) => {
      const timer = setTimeout(
        () => reject(new VoidRun(`only ${count} of ${rows} rows were read`)),
        TIMEOUT_MS,
      );
      let count = 0;
      client.connection.on('copyData', ({ chunk }) => {
        if (chunk[0] !== XLOG_DATA) return;
        const kind = chunk[HEADER_BYTES];
        if (kind !== INSERT && kind !== UPDATE && kind !== DELETE) return;
        count += 1;
        if (count !== rows) return;
        clearTimeout(timer);
        resolve(undefined);
      });
      client
        .query(
          `START_REPLICATION SLOT ${slot} LOGICAL 0/0 (proto_version '1', publication_names '${publication}')`,
        )
        .catch(reject);
    });
    return (performance.now() - started) / 1000;
  } finally {
    client.connection.stream.destroy();
  }
}

/** @param {string} letter */
function code(letter) {
  return letter.charCodeAt(0);
}
