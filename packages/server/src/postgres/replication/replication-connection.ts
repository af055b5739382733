import pg from 'pg';
import { connectionOptions } from '../connection/connection-target.js';
import { PIN_SESSION } from '../connection/session-settings.js';
import type { Lsn } from '../sql/lsn.js';

/** What PostgreSQL tells between messages of the stream. */
export interface StreamHandler {
  /** `bytes` is valid during the call only. */
  data(bytes: Buffer, walEnd: Lsn): void;
  /** PostgreSQL's end of the log; all that it would send before it has been sent. */
  keepalive(walEnd: Lsn): void;
}

/** The parts of pg's connection that its types leave out. */
interface Wire {
  on(event: 'copyData', listener: (message: { readonly chunk: Buffer }) => void): void;
  once(event: 'replicationStart', listener: () => void): void;
  sendCopyFromChunk(chunk: Buffer): void;
}

const NONE: Lsn = 0n;
/** Ours dies soon when its network does, and with it the hold on the slot, in ms. */
const SENDER_TIMEOUT_MS = 10_000;
/** At a third of it. */
const STATUS_MS = 3_000;
/** For statements; the stream itself may be silent for as long as it likes, in ms. */
const STATEMENT_TIMEOUT_MS = 15_000;
const [XLOG_DATA, KEEPALIVE, STATUS] = [0x77, 0x6b, 0x72];
/** Milliseconds from 1970-01-01 to 2000-01-01. */
const POSTGRES_EPOCH_MS = 946_684_800_000;

/**
 * A connection of the streaming replication protocol to one database (PostgreSQL manual, "Streaming Replication
 * Protocol"): first statements, then one stream. It reports what was received, whatever becomes of it.
 */
export class ReplicationConnection {
  readonly #client: pg.Client;
  readonly #wire: Wire;
  #received: Lsn = NONE;
  #heardAt = performance.now();
  #status: NodeJS.Timeout | undefined;
  #isClosed = false;

  /** Connects. Throws errors of the driver. */
  static async open(url: string, applicationName: string): Promise<ReplicationConnection> {
    const options = { ...connectionOptions(url, applicationName, 0), replication: 'database' };
    const connection = new ReplicationConnection(new pg.Client(options));
    try {
      await within(STATEMENT_TIMEOUT_MS, connection.#client.connect());
      await connection.query(`${PIN_SESSION}; SET wal_sender_timeout = ${SENDER_TIMEOUT_MS}`);
      return connection;
    } catch (error) {
      connection.close();
      throw error;
    }
  }

  private constructor(client: pg.Client) {
    this.#client = client;
    this.#wire = client.connection as unknown as Wire;
    // The failure reaches us as the rejection of whatever was waiting.
    client.on('error', () => undefined);
  }

  /** PostgreSQL's process at the other end. */
  get processId(): number {
    return (this.#client as unknown as { readonly processID: number }).processID;
  }

  /** How long nothing has come, in ms. */
  get silentMs(): number {
    return performance.now() - this.#heardAt;
  }

  /** The rows of a statement or command, before the stream begins. */
  async query<Row extends object>(text: string): Promise<Row[]> {
    const result = await within(STATEMENT_TIMEOUT_MS, this.#client.query<Row>(text));
    return result.rows;
  }

  /**
   * Begins the stream and resolves when PostgreSQL has, and `verify`, which may look at what is ours by then, has not
   * thrown: nothing is handed on before. `ended` settles at the stream's end: with an error, or without one when
   * PostgreSQL ended it.
   */
  async stream(
    command: string,
    handler: StreamHandler,
    verify: () => Promise<void>,
  ): Promise<{ readonly ended: Promise<void> }> {
    const started = new Promise<void>((resolve) => this.#wire.once('replicationStart', resolve));
    let early: Buffer[] | undefined = [];
    this.#wire.on('copyData', ({ chunk }) => {
      if (early === undefined) this.#take(chunk, handler);
      else early.push(Buffer.from(chunk));
    });
    const ended = this.#client.query(command).then(() => undefined);
    ended.catch(() => undefined);
    await within(STATEMENT_TIMEOUT_MS, Promise.race([started, ended]));
    this.pause();
    await verify();
    for (const chunk of early) this.#take(chunk, handler);
    early = undefined;
    this.resume();
    this.#status = setInterval(() => this.report(), STATUS_MS);
    return { ended };
  }

  /** Everything before `lsn` may be forgotten. */
  acknowledge(lsn: Lsn): void {
    this.report(lsn);
    // A walsender that was once told a flush position waits for it to reach its end before it lets PostgreSQL stop.
    this.report();
  }

  /** Tells how far we have received, and, unless it is none, what may be forgotten; asks for a sign of life. */
  report(flushed: Lsn = NONE): void {
    if (this.#isClosed) return;
    const message = Buffer.alloc(34);
    message[0] = STATUS;
    message.writeBigUInt64BE(this.#received, 1);
    message.writeBigUInt64BE(flushed, 9);
    message.writeBigUInt64BE(flushed, 17);
    message.writeBigInt64BE(BigInt(Date.now() - POSTGRES_EPOCH_MS) * 1000n, 25);
    message[33] = 1;
    this.#wire.sendCopyFromChunk(message);
  }

  pause(): void {
    this.#client.connection.stream.pause();
  }

  resume(): void {
    this.#heardAt = performance.now();
    this.#client.connection.stream.resume();
  }

  /** Ends the connection at once. */
  close(): void {
    this.#isClosed = true;
    clearInterval(this.#status);
    this.#client.end().catch(() => undefined);
    this.#client.connection.stream.destroy();
  }

  #take(chunk: Buffer, handler: StreamHandler): void {
    if (this.#isClosed) return;
    this.#heardAt = performance.now();
    if (chunk[0] === XLOG_DATA) {
      const start = chunk.readBigUInt64BE(1);
      if (start > this.#received) this.#received = start;
      handler.data(chunk.subarray(25), chunk.readBigUInt64BE(9));
    } else if (chunk[0] === KEEPALIVE) {
      const walEnd = chunk.readBigUInt64BE(1);
      if (walEnd > this.#received) this.#received = walEnd;
      handler.keepalive(walEnd);
      if (chunk[17] === 1) this.report();
    }
  }
}

function within<T>(ms: number, promise: Promise<T>): Promise<T> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(new Error('Query read timeout')), ms);
  });
  return Promise.race([promise, late]).finally(() => clearTimeout(timer));
}
