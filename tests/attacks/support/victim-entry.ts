import { Agent, get } from 'node:http';
import { createInterface } from 'node:readline';
import pg from 'pg';
import { WebSocket } from 'ws';

/** What the process is started with, as JSON in its first argument. */
export interface VictimOptions {
  readonly port: number;
  readonly databaseUrl: string;
  readonly token: string;
  readonly channel: string;
  readonly userId: string;
}

/** Latencies in ms. */
interface Latencies {
  readonly count: number;
  readonly p50: number;
  readonly p99: number;
  readonly max: number;
}

type Activity = 'ping' | 'message' | 'change' | 'http';

/** The last line of the process. */
export interface VictimReport {
  /** By the phase in which the victim acted. */
  readonly phases: Readonly<Record<string, Readonly<Record<Activity, Latencies>>>>;
  /** What got no answer, more than one, or an unexpected one. */
  readonly problems: readonly string[];
}

const INTERVALS_MS = { ping: 50, message: 100, change: 50, http: 200 };
/** How long answers may take after the last phase, in ms. */
const ANSWER_MS = 20_000;
/** The victim has an address of its own, so that limits by address do not mix it with the attacker. */
const ADDRESS = '127.0.0.2';

const options = JSON.parse(process.argv[2] ?? '{}') as VictimOptions;
const measured = new Map<string, Record<Activity, number[]>>();
const pending = new Map<
  string,
  { readonly activity: Activity; readonly phase: string; readonly at: number }
>();
const problems: string[] = [];
const agent = new Agent({ keepAlive: true, maxSockets: 1, localAddress: ADDRESS });
const database = new pg.Client({ connectionString: options.databaseUrl });
let phase = '';
let count = 0;

const socket = new WebSocket(
  `ws://127.0.0.1:${options.port}/realtime/channels/${options.channel}/ws?token=${options.token}&presence=none`,
  { localAddress: ADDRESS },
);
socket.on('close', (code) => problems.push(`the connection was closed with ${code}`));
socket.on('error', (error) => problems.push(error.message));
socket.on('message', (data: Buffer) => received(JSON.parse(data.toString()) as Message));

interface Message {
  readonly type: string;
  readonly event: string;
  readonly ref?: string;
  readonly payload: {
    readonly n?: string;
    readonly change?: { readonly new_record?: { readonly body?: string } };
  };
  readonly user_id: string;
}

function received({ type, event, ref, payload, user_id: userId }: Message): void {
  if (event === 'connected') answer({ ready: true });
  else if (type === 'reply') finished(ref ?? '');
  else if (event === 'chat' && userId === options.userId) finished(payload.n ?? '');
  else if (type === 'database_change') finished(payload.change?.new_record?.body ?? '');
  else if (type === 'system') problems.push(`system/${event} ${JSON.stringify(payload)}`);
}

function finished(id: string): void {
  const begun = pending.get(id);
  if (begun === undefined) {
    problems.push(`${id} arrived twice, or was never sent`);
    return;
  }
  pending.delete(id);
  measured.get(begun.phase)?.[begun.activity].push(performance.now() - begun.at);
}

const ACTS: Readonly<Record<Activity, (id: string) => void>> = {
  ping: (id) => socket.send(JSON.stringify({ type: 'ping', event: 'ping', ref: id })),
  message: (id) => socket.send(JSON.stringify({ type: 'message', event: 'chat', payload: { n: id } })),
  change: (id) => {
    database
      .query('INSERT INTO notes (user_id, body) VALUES ($1, $2)', [options.userId, id])
      .catch((error: Error) => problems.push(error.message));
  },
  http: (id) => {
    get({ host: '127.0.0.1', port: options.port, path: '/healthz', agent }, (response) => {
      if (response.statusCode !== 200) problems.push(`/healthz answered ${response.statusCode}`);
      response.resume().on('end', () => finished(id));
    }).on('error', (error) => problems.push(`/healthz: ${error.message}`));
  },
};

function act(activity: Activity): void {
  if (phase === '') return;
  const id = `${activity}-${++count}`;
  pending.set(id, { activity, phase, at: performance.now() });
  if (activity === 'http' || activity === 'change' || socket.readyState === WebSocket.OPEN)
    ACTS[activity](id);
}

function latencies(values: number[]): Latencies {
  const sorted = values.toSorted((a, b) => a - b);
  const at = (part: number) =>
    round(sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * part))] ?? 0);
  return { count: sorted.length, p50: at(0.5), p99: at(0.99), max: at(1) };
}

function round(ms: number): number {
  return Math.round(ms * 10) / 10;
}

function answer(content: object): void {
  process.stdout.write(`${JSON.stringify(content)}\n`);
}

await database.connect();
for (const [activity, ms] of Object.entries(INTERVALS_MS)) setInterval(() => act(activity as Activity), ms);
for await (const line of createInterface(process.stdin)) {
  if (line === 'stop') break;
  phase = line;
  measured.set(phase, { ping: [], message: [], change: [], http: [] });
}
phase = '';
const deadline = performance.now() + ANSWER_MS;
while (pending.size > 0 && performance.now() < deadline)
  await new Promise((resolve) => setTimeout(resolve, 20));
for (const id of pending.keys()) problems.push(`${id} got no answer`);
const phases = Object.fromEntries(
  [...measured].map(([name, of]) => [
    name,
    {
      ping: latencies(of.ping),
      message: latencies(of.message),
      change: latencies(of.change),
      http: latencies(of.http),
    },
  ]),
);
process.stdout.write(`${JSON.stringify({ phases, problems } satisfies VictimReport)}\n`, () =>
  process.exit(0),
);
