import { setTimeout as delay } from 'node:timers/promises';
import type { ServerMessage } from '@goforward/realtime-protocol';
import { WebSocket } from 'ws';
import type { Random } from '../fuzz/random.js';
import type { ClientLog, Entry } from './checker.js';

export interface ClientOptions {
  readonly name: string;
  readonly user: string;
  /** The address to connect to, asked for at each try; without options but the token. */
  readonly url: () => string;
  readonly random: Random;
  /** Dies by itself after so many changes, on the average; 0: never. */
  readonly diesEvery: number;
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

const PAUSE_MS = 30;
/** Its position is kept every so often: after a death some changes come again. */
const KEEPS_EVERY = 7;

/** A client that notes everything, dies at random, and comes back with the position that it had kept. */
export class CheckingClient {
  readonly #options: ClientOptions;
  readonly #entries: Entry[] = [];
  readonly #rows = new Map<string, string>();
  #kept: string | undefined;
  /** The rows as they were when the position was kept. */
  #unkept = 0;
  #socket: WebSocket | undefined;
  #isStopping = false;
  #isCalm = false;
  #running: Promise<void> = Promise.resolve();
  /** When it was last connected, and how long that took since the loss, in ms. */
  readonly recoveries: number[] = [];
  #lostAt: number | undefined;
  newest = '';
  changes = 0;
  deaths = 0;
  gaps = 0;
  downs = 0;

  constructor(options: ClientOptions) {
    this.#options = options;
  }

  get log(): ClientLog {
    const { name, user } = this.#options;
    return { name, user, entries: this.#entries };
  }

  /** Its rows: what it made of the changes. */
  get rows(): ReadonlyMap<string, string> {
    return this.#rows;
  }

  get isConnected(): boolean {
    return this.#socket?.readyState === WebSocket.OPEN;
  }

  start(): void {
    this.#running = this.#run();
  }

  async stop(): Promise<void> {
    this.#isStopping = true;
    this.#socket?.terminate();
    await this.#running;
  }

  /** From now on it does not die by itself. */
  calmDown(): void {
    this.#isCalm = true;
  }

  /** Dies, and comes back. */
  die(): void {
    this.#socket?.terminate();
  }

  async #run(): Promise<void> {
    while (!this.#isStopping) {
      await this.#live();
      this.#lostAt ??= performance.now();
      if (!this.#isStopping) await delay(PAUSE_MS * (0.5 + this.#options.random.next()));
    }
  }

  /** One connection. */
  #live(): Promise<void> {
    const asked = this.#kept;
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
      // What came before its death and was not looked at yet died with it.
      if (socket.readyState === WebSocket.OPEN)
        this.#take(JSON.parse(data.toString()) as ServerMessage, asked);
    });
    return new Promise((resolve) => socket.on('close', () => resolve()));
  }

  #take(message: ServerMessage, asked: string | undefined): void {
    const { random, diesEvery } = this.#options;
    if (message.type === 'database_change') {
      this.#change(message);
      if (diesEvery > 0 && !this.#isCalm && random.below(diesEvery) === 0) {
        this.deaths += 1;
        this.die();
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
    this.#kept ??= cursor;
    if (this.#lostAt !== undefined) this.recoveries.push(performance.now() - this.#lostAt);
    this.#lostAt = undefined;
  }

  #change({ cursor = '', payload }: ServerMessage): void {
    const { event, old_record: old, new_record: row } = (payload as { change: Change }).change;
    const { writer, seq } = row ?? old ?? { writer: 0, seq: 0 };
    const key = `${writer}/${seq}`;
    this.#entries.push({ kind: 'change', cursor, what: `${event} ${key}` });
    if (row === null) this.#rows.delete(key);
    else this.#rows.set(key, row.filler);
    this.newest = cursor;
    this.changes += 1;
    this.#unkept += 1;
    if (this.#unkept < KEEPS_EVERY && this.#kept !== undefined) return;
    this.#kept = cursor;
    this.#unkept = 0;
  }
}
