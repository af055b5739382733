import pg from 'pg';
import { wallClock } from '../../lib/clock.js';
import { connectionOptions } from '../connection/connection-target.js';
import { PIN_SESSION } from '../connection/session-settings.js';
import type { Lsn } from '../sql/lsn.js';

/** Receives the messages of the stream. */
export interface StreamHandler {
  /** One pgoutput message. `bytes` is valid only during the call. */
  data(bytes: Buffer, walEnd: Lsn): void;
  /** A keepalive: `walEnd` is the end of the WAL, and PostgreSQL has sent everything before it. */
  keepalive(walEnd: Lsn): void;
}

/** The parts of pg's connection that are missing in its types. */
interface Wire {
  on(event: 'copyData', listener: (message: { readonly chunk: Buffer }) => void): void;
  once(event: 'replicationStart', listener: () => void): void;
  sendCopyFromChunk(chunk: Buffer): void;
}

const NONE: Lsn = 0n;
/** A half-open WAL sender of ours ends after this time and frees the slot, in ms. */
const SENDER_TIMEOUT_MS = 10_000;
/** Interval of status updates, in ms: a third of SENDER_TIMEOUT_MS. */
const STATUS_MS = 3_000;
/** Timeout of statements, in ms. The stream itself has none. */
const STATEMENT_TIMEOUT_MS = 15_000;
const [XLOG_DATA, KEEPALIVE, STATUS] = [0x77, 0x6b, 0x72];
/** Milliseconds from 1970-01-01 to 2000-01-01. */
const POSTGRES_EPOCH_MS = 946_684_800_000;

/**
 * Speaks the streaming replication protocol with one database (PostgreSQL manual, "Streaming Replication
 * Protocol"): first statements, then one stream. Its status updates report the received position, whatever
 * the consumers do, so that PostgreSQL does not time the connection out.
 */
export class ReplicationConnection {
  readonly #client: pg.Client;
  readonly #wire: Wire;
  #received: Lsn = NONE;
  #lastReceivedAt = performance.now();
  #statusTimer: NodeJS.Timeout | undefined;
  #isClosed = false;

  /** Connects and pins the session settings. Throws errors of the driver. */
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
    // The pending call rejects with the same error.
    client.on('error', () => undefined);
  }

  /** The process ID of the WAL sender. */
  get processId(): number {
    return (this.#client as unknown as { readonly processID: number }).processID;
  }

  /** Time since the last message, in ms. */
  get silentMs(): number {
    return performance.now() - this.#lastReceivedAt;
  }

  /** Runs a statement or replication command and returns its rows. Only before the stream starts. */
  async query<Row extends object>(text: string): Promise<Row[]> {
    const result = await within(STATEMENT_TIMEOUT_MS, this.#client.query<Row>(text));
    return result.rows;
  }

  /**
   * Starts the stream. Resolves when PostgreSQL has started it and `verify` has resolved; `verify` may check
   * the slot, which this connection holds by then. Messages that arrive earlier are buffered and delivered
   * afterwards. `ended` settles at the end of the stream: it rejects with an error, or resolves when
   * PostgreSQL ended the stream.
   */
  async stream(
    command: string,
    handler: StreamHandler,
    verify: () => Promise<void>,
  ): Promise<{ readonly ended: Promise<void> }> {
    const started = new Promise<void>((resolve) => this.#wire.once('replicationStart', resolve));
    let early: Buffer[] | undefined = [];
    this.#wire.on('copyData', ({ chunk }) => {
      if (early === undefined) this.#handleChunk(chunk, handler);
      else early.push(Buffer.from(chunk));
    });
    const ended = this.#client.query(command).then(() => undefined);
    ended.catch(() => undefined);
    await within(STATEMENT_TIMEOUT_MS, Promise.race([started, ended]));
    this.pause();
    await verify();
    for (const chunk of early) this.#handleChunk(chunk, handler);
    early = undefined;
    this.resume();
    this.#statusTimer = setInterval(() => this.sendStatus(), STATUS_MS);
    return { ended };
  }

  /** Acknowledges everything before `lsn`: PostgreSQL may discard its WAL. */
  acknowledge(lsn: Lsn): void {
    this.sendStatus(lsn);
    // A WAL sender whose last flush position is older than its own end never ends, so a fast stop of
    // PostgreSQL would hang while we are connected. A second update without a flush position prevents that.
    this.sendStatus();
  }

  /**
   * Sends a status update: the received position, and the acknowledged position `flushed` unless it is 0/0.
   * It requests a reply, so that a dead connection is noticed.
   */
  sendStatus(flushed: Lsn = NONE): void {
    if (this.#isClosed) return;
    const message = Buffer.alloc(34);
    message[0] = STATUS;
    message.writeBigUInt64BE(this.#received, 1);
    message.writeBigUInt64BE(flushed, 9);
    message.writeBigUInt64BE(flushed, 17);
    message.writeBigInt64BE(BigInt(wallClock.epochMs() - POSTGRES_EPOCH_MS) * 1000n, 25);
    message[33] = 1;
    this.#wire.sendCopyFromChunk(message);
  }

  pause(): void {
    this.#client.connection.stream.pause();
  }

  resume(): void {
    this.#lastReceivedAt = performance.now();
    this.#client.connection.stream.resume();
  }

  /** Closes the connection at once. */
  close(): void {
    this.#isClosed = true;
    clearInterval(this.#statusTimer);
    this.#client.end().catch(() => undefined);
    this.#client.connection.stream.destroy();
  }

  #handleChunk(chunk: Buffer, handler: StreamHandler): void {
    if (this.#isClosed) return;
    this.#lastReceivedAt = performance.now();
    if (chunk[0] === XLOG_DATA) {
      const start = chunk.readBigUInt64BE(1);
      if (start > this.#received) this.#received = start;
      handler.data(chunk.subarray(25), chunk.readBigUInt64BE(9));
    } else if (chunk[0] === KEEPALIVE) {
      const walEnd = chunk.readBigUInt64BE(1);
      if (walEnd > this.#received) this.#received = walEnd;
      handler.keepalive(walEnd);
      if (chunk[17] === 1) this.sendStatus();
    }
  }
}

function within<T>(ms: number, promise: Promise<T>): Promise<T> {
  let timer: NodeJS.Timeout | undefined;
  const timeout = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(new Error('Query read timeout')), ms);
  });
  return Promise.race([promise, timeout]).finally(() => clearTimeout(timer));
}
