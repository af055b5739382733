import { setTimeout as delay } from 'node:timers/promises';
import type { ServerMessage } from '@goforward/realtime-protocol';
import { WebSocket } from 'ws';
import type { Random } from '../fuzz/random.js';
import type { ClientLog, Entry } from './checker.js';

export interface ClientOptions {
  readonly name: string;
  readonly user: string;
  /** Returns the URL to connect to, with the token as its only option. Called before each attempt. */
  readonly url: () => string;
  readonly random: Random;
  /** Average number of changes after which the client drops its connection by itself; 0: never. */
  readonly disconnectEvery: number;
}

interface LedgerRow {
  readonly writer: number;
  readonly seq: number;
  readonly filler: string;
}

interface Change {
  readonly event: string;
  readonly old_record: LedgerRow | null;
  readonly new_record: LedgerRow | null;
}

const RECONNECT_DELAY_MS = 30;
/**
 * Changes between two stored cursors. A client that reconnects receives the changes since its stored cursor
 * again.
 */
const STORE_CURSOR_EVERY = 7;

/**
 * Records everything it receives, drops its connection at random and resumes with the cursor that it last
 * stored.
 */
export class CheckingClient {
  readonly #options: ClientOptions;
  readonly #entries: Entry[] = [];
  readonly #rows = new Map<string, string>();
  #storedCursor: string | undefined;
  #changesSinceStore = 0;
  #socket: WebSocket | undefined;
  #isStopping = false;
  #staysConnected = false;
  #finished: Promise<void> = Promise.resolve();
  /** How long each reconnect took, from the loss of the connection to `connected`, in ms. */
  readonly recoveries: number[] = [];
  #disconnectedAt: number | undefined;
  newest = '';
  changes = 0;
  disconnects = 0;
  gaps = 0;
  downs = 0;

  constructor(options: ClientOptions) {
    this.#options = options;
  }

  get log(): ClientLog {
    const { name, user } = this.#options;
    return { name, user, entries: this.#entries };
  }

  /** The client's copy of the table, built from the changes. */
  get rows(): ReadonlyMap<string, string> {
    return this.#rows;
  }

  get isConnected(): boolean {
    return this.#socket?.readyState === WebSocket.OPEN;
  }

  start(): void {
    this.#finished = this.#run();
  }

  async stop(): Promise<void> {
    this.#isStopping = true;
    this.#socket?.terminate();
    await this.#finished;
  }

  /** From now on the client does not drop its connection by itself. */
  stayConnected(): void {
    this.#staysConnected = true;
  }

  /** Drops the connection; the client then reconnects. */
  disconnect(): void {
    this.#socket?.terminate();
  }

  async #run(): Promise<void> {
    while (!this.#isStopping) {
      await this.#connectOnce();
      this.#disconnectedAt ??= performance.now();
      if (!this.#isStopping) await delay(RECONNECT_DELAY_MS * (0.5 + this.#options.random.next()));
    }
  }

  /** Opens one connection; resolves when it has closed. */
  #connectOnce(): Promise<void> {
    const asked = this.#storedCursor;
    const { url } = this.#options;
    const socket = new WebSocket(
      `${url()}${asked === undefined ? '' : `&cursor=${encodeURIComponent(asked)}`}`,
      {
        handshakeTimeout: 15_000,
      },
    );
    this.#socket = socket;
    socket.on('error', () => undefined);
    socket.on('message', (data: Buffer) => {
      // Messages that were received but not processed before the connection was dropped count as lost.
      if (socket.readyState === WebSocket.OPEN)
        this.#receive(JSON.parse(data.toString()) as ServerMessage, asked);
    });
    return new Promise((resolve) => socket.on('close', () => resolve()));
  }

  #receive(message: ServerMessage, asked: string | undefined): void {
    const { random, disconnectEvery } = this.#options;
    if (message.type === 'database_change') {
      this.#receiveChange(message);
      if (disconnectEvery > 0 && !this.#staysConnected && random.below(disconnectEvery) === 0) {
        this.disconnects += 1;
        this.disconnect();
      }
    }
    if (message.type !== 'system') return;
    if (message.event === 'database_down') this.downs += 1;
    if (message.event === 'gap') {
      this.gaps += 1;
      this.#entries.push({ kind: 'gap' });
    }
    if (message.event !== 'connected') return;
    const { cursor, recovered } = message.payload as { cursor?: string; recovered: boolean };
    this.#entries.push({
      kind: 'connected',
      recovered,
      ...(asked === undefined ? {} : { asked }),
      ...(cursor === undefined ? {} : { cursor }),
    });
    this.#storedCursor ??= cursor;
    if (this.#disconnectedAt !== undefined) this.recoveries.push(performance.now() - this.#disconnectedAt);
    this.#disconnectedAt = undefined;
  }

  #receiveChange({ cursor = '', payload }: ServerMessage): void {
    const { event, old_record: old, new_record: row } = (payload as { change: Change }).change;
    const { writer, seq } = row ?? old ?? { writer: 0, seq: 0 };
    const key = `${writer}/${seq}`;
    this.#entries.push({ kind: 'change', cursor, what: `${event} ${key}` });
    if (row === null) this.#rows.delete(key);
    else this.#rows.set(key, row.filler);
    this.newest = cursor;
    this.changes += 1;
    this.#changesSinceStore += 1;
    if (this.#changesSinceStore < STORE_CURSOR_EVERY && this.#storedCursor !== undefined) return;
    this.#storedCursor = cursor;
    this.#changesSinceStore = 0;
  }
}
