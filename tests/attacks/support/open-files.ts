import { readdir } from 'node:fs/promises';
import type { Target } from './target.js';

/** Returns the number of files that the server has open; a socket is one. */
export async function openFiles({ pid }: Target): Promise<number> {
  return (await readdir(`/proc/${pid}/fd`)).length;
}
