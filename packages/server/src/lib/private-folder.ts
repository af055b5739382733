import { mkdir } from 'node:fs/promises';
import { dirname } from 'node:path';

/** Makes a folder for its owner alone where there is none. Its parents are made as usual: others may pass through them. */
export async function makePrivateFolder(folder: string): Promise<void> {
  await mkdir(dirname(folder), { recursive: true });
  try {
    await mkdir(folder, { mode: 0o700 });
  } catch (error) {
    if (!(error instanceof Error && 'code' in error && error.code === 'EEXIST')) throw error;
  }
}
