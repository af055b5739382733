import { createInterface } from 'node:readline';
import { createLog } from '../../packages/server/src/lib/log.js';
import {
  EmbeddedPostgres,
  type EmbeddedPostgresOptions,
} from '../../packages/server/src/postgres/embedded/embedded-postgres.js';

/** What the process that runs this says: one line of JSON. */
export type ChildAnswer = { readonly url: string } | { readonly error: string; readonly message: string };

const options = JSON.parse(process.argv[2] ?? '{}') as Omit<EmbeddedPostgresOptions, 'log'>;
const postgres = new EmbeddedPostgres({ ...options, log: createLog('silent') });

function say(answer: ChildAnswer): void {
  process.stdout.write(`${JSON.stringify(answer)}\n`);
}

try {
  say(await postgres.start());
  for await (const line of createInterface(process.stdin)) if (line === 'stop') break;
} catch (error) {
  if (!(error instanceof Error)) throw error;
  say({ error: error.name, message: error.message });
}
await postgres.stop();
