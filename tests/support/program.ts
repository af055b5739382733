import { chmod, mkdir, mkdtemp, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { build } from 'esbuild';

const ROOT = fileURLToPath(new URL('../..', import.meta.url));

/** A file that Node runs as a process of its own. */
export interface Program {
  readonly file: string;
  remove(): Promise<void>;
}

/** Builds a file of this folder, with our sources in it, among our dependencies, where it finds them. */
export async function buildProgram(entry: string): Promise<Program> {
  const cache = join(ROOT, 'node_modules/.cache');
  await mkdir(cache, { recursive: true });
  const folder = await mkdtemp(join(cache, 'program-'));
  await chmod(folder, 0o755);
  const file = join(folder, 'main.mjs');
  await build({
    entryPoints: [join(ROOT, 'tests/support', entry)],
    outfile: file,
    bundle: true,
    platform: 'node',
    format: 'esm',
    conditions: ['source'],
    external: ['pg', 'pino', 'pino-pretty'],
    logLevel: 'warning',
  });
  return { file, remove: () => rm(folder, { recursive: true, force: true }) };
}
