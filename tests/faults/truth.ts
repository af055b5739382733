import pg from 'pg';
import type { TrueChange } from './checker.js';

/**
 * Reads the committed changes, in commit order, from PostgreSQL's logical decoding through a replication slot
 * of its own. It shares no code with the server that the tests check.
 */
export class CommittedChanges {
  readonly #url: string;
  readonly #slot: string;
  readonly #publication: string;
  readonly #changes: TrueChange[] = [];

  constructor(url: string, slot: string, publication: string) {
    this.#url = url;
    this.#slot = slot;
    this.#publication = publication;
  }

  /** Creates the slot: changes committed after this are kept. */
  begin(): Promise<unknown> {
    return this.#query(`SELECT pg_create_logical_replication_slot('${this.#slot}', 'pgoutput')`);
  }

  /** Returns all changes so far. Also advances the slot, so that it does not retain too much WAL. */
  async changes(): Promise<readonly TrueChange[]> {
    const rows = await this.#query<{ data: Buffer }>(
      `SELECT data FROM pg_logical_slot_get_binary_changes('${this.#slot}', NULL, NULL,
         'proto_version', '1', 'publication_names', '${this.#publication}')`,
    );
    let lsn = 0n;
    let index = 0;
    for (const { data } of rows) {
      const kind = String.fromCharCode(data[0] ?? 0);
      if (kind === 'B') {
        lsn = data.readBigUInt64BE(1);
        index = 0;
      }
      const operation = { I: 'INSERT', U: 'UPDATE', D: 'DELETE' }[kind];
      if (operation === undefined) continue;
      // With REPLICA IDENTITY FULL an update has two tuples, the new row last. Its first columns are writer,
      // seq, user_id.
      const [writer, seq, user = ''] = lastTuple(data);
      this.#changes.push({ lsn, index, what: `${operation} ${writer}/${seq}`, user });
      index += 1;
    }
    return this.#changes;
  }

  async #query<Row extends object>(text: string): Promise<Row[]> {
    const client = new pg.Client({ connectionString: this.#url });
    await client.connect();
    try {
      return (await client.query<Row>(text)).rows;
    } finally {
      await client.end();
    }
  }
}

function lastTuple(data: Buffer): string[] {
  let values: string[] = [];
  for (let at = 5; at < data.length; ) {
    const count = data.readUInt16BE(at + 1);
    at += 3;
    values = [];
    for (let n = 0; n < count; n++) {
      const kind = String.fromCharCode(data[at] ?? 0);
      at += 1;
      if (kind !== 't') {
        values.push('');
        continue;
      }
      const length = data.readUInt32BE(at);
      values.push(data.toString('utf8', at + 4, at + 4 + length));
      at += 4 + length;
    }
  }
  return values;
}
