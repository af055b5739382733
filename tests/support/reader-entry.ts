import { openSync, writeSync } from 'node:fs';
import { silentLog } from '../../packages/server/src/lib/log.js';
import { Database } from '../../packages/server/src/postgres/connection/database.js';
import { readChange } from '../../packages/server/src/postgres/replication/pgoutput.js';
import { ReplicationSource } from '../../packages/server/src/postgres/replication/replication-source.js';
import type {
  ChangeSink,
  SinkMemo,
  WalBegin,
  WalRelation,
} from '../../packages/server/src/postgres/source/change-source.js';

/** The options of this process, as JSON in its first argument. */
export interface ReaderOptions {
  readonly url: string;
  readonly slot: string;
  /**
   * Every change is appended to this file before it is acknowledged: `<commit LSN> <index> <first column>`.
   */
  readonly file: string;
}

/** Writes changes to a file and acknowledges each transaction as soon as its changes are written. */
class FileSink implements ChangeSink {
  readonly #file: number;
  readonly #acknowledge: (endLsn: bigint) => void;
  #transaction: WalBegin | undefined;
  #index = 0;

  constructor(file: string, acknowledge: (endLsn: bigint) => void) {
    this.#file = openSync(file, 'a');
    this.#acknowledge = acknowledge;
  }

  opened({ epoch, gap }: { epoch: string; gap?: string }): void {
    this.#write(`opened ${epoch}${gap === undefined ? '' : ` gap: ${gap}`}`);
  }

  closed(): void {
    this.#transaction = undefined;
  }

  begin(begin: WalBegin): void {
    this.#transaction = begin;
    this.#index = 0;
  }

  change(_kind: string, relation: WalRelation, bytes: Buffer): void {
    const row = readChange(bytes, relation).new;
    this.#write(`${this.#transaction?.commitLsn} ${this.#index++} ${row?.[0]}`);
  }

  truncate(): void {
    this.#index += 1;
  }

  message(): void {
    this.#index += 1;
  }

  forget(): SinkMemo {
    return {};
  }

  commit(endLsn: bigint): void {
    this.#acknowledge(endLsn);
  }

  #write(line: string): void {
    writeSync(this.#file, `${line}\n`);
  }
}

const { url, slot, file } = JSON.parse(process.argv[2] ?? '{}') as ReaderOptions;
const database = new Database({
  url,
  log: silentLog,
  maxReconnectDelayMs: 100,
  onReady: async () => undefined,
});
await database.start();
const source = new ReplicationSource({
  url,
  database,
  slot,
  publication: 'test_publication',
  dbRoles: [],
  enableRls: true,
  heartbeatMs: 200,
  window: { ms: 0, bytes: 0 },
  walLimitAction: 'keep',
  maxReconnectDelayMs: 100,
  log: silentLog,
  newEpoch: () => Math.random().toString(36).slice(2),
});
source.start(new FileSink(file, (endLsn) => source.acknowledge(endLsn)));
