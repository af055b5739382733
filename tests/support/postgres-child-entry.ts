import { createInterface } from 'node:readline';
import { createLog } from '../../packages/server/src/lib/log.js';
import {
  EmbeddedPostgres,
  type EmbeddedPostgresOptions,
} from '../../packages/server/src/postgres/embedded/embedded-postgres.js';

/** The answer of this process: one line of JSON on stdout. */
export type ChildAnswer = { readonly url: string } | { readonly error: string; readonly message: string };

const options = JSON.parse(process.argv[2] ?? '{}') as Omit<EmbeddedPostgresOptions, 'log'>;
const postgres = new EmbeddedPostgres({ ...options, log: createLog('silent') });

function answer(content: ChildAnswer): void {
  process.stdout.write(`${JSON.stringify(content)}\n`);
}

try {
  answer(await postgres.start());
  for await (const line of createInterface(process.stdin)) if (line === 'stop') break;
} catch (error) {
  if (!(error instanceof Error)) throw error;
  answer({ error: error.name, message: error.message });
}
await postgres.stop();
