import { chmod, mkdir, mkdtemp, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { build } from 'esbuild';

const ROOT = fileURLToPath(new URL('../..', import.meta.url));

/** A bundled file that Node runs as a separate process. */
export interface Program {
  readonly file: string;
  remove(): Promise<void>;
}

/**
 * Bundles a file of `tests/` with the product's sources. The bundle is below node_modules, to resolve
 * dependencies.
 */
export async function buildProgram(entry: string): Promise<Program> {
  const cache = join(ROOT, 'node_modules/.cache');
  await mkdir(cache, { recursive: true });
  const folder = await mkdtemp(join(cache, 'program-'));
  await chmod(folder, 0o755);
  const file = join(folder, 'main.mjs');
  await build({
    entryPoints: [join(ROOT, 'tests', entry)],
    outfile: file,
    bundle: true,
    platform: 'node',
    format: 'esm',
    conditions: ['source'],
    external: ['pg', 'pino', 'pino-pretty', 'ws'],
    logLevel: 'warning',
  });
  return { file, remove: () => rm(folder, { recursive: true, force: true }) };
}
