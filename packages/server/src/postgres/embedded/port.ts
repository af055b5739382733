import { createHash } from 'node:crypto';
import { type AddressInfo, createServer } from 'node:net';
import { join } from 'node:path';
import { readIfExists, writePrivateFile } from './private-file.js';

export const PORT_FILE = 'postgres-port';
/** Below the range for outgoing connections, one of which could take the port while the server restarts. */
const FIRST_PORT = 20_000;
const PORTS = 10_000;
const PORTS_TO_TRY = 50;

/**
 * Returns a free port on 127.0.0.1: the last port of this folder, else one derived from the folder's name or
 * the next free one after it. So saved connection strings stay valid.
 */
export async function choosePort(dataDir: string): Promise<number> {
  const last = Number((await readIfExists(join(dataDir, PORT_FILE))) ?? 0);
  if (last > 0 && last < 65_536 && (await isFree(last))) return last;
  const derived = createHash('sha256').update(dataDir).digest().readUInt32BE() % PORTS;
  for (let i = 0; i < PORTS_TO_TRY; i++) {
    const port = FIRST_PORT + ((derived + i) % PORTS);
    if (port !== last && (await isFree(port))) return port;
  }
  return (await tryListen(0)) ?? 0;
}

export async function savePort(dataDir: string, port: number): Promise<void> {
  const file = join(dataDir, PORT_FILE);
  if ((await readIfExists(file)) !== String(port)) await writePrivateFile(file, `${port}\n`, { mode: 0o644 });
}

async function isFree(port: number): Promise<boolean> {
  return (await tryListen(port)) !== undefined;
}

/** Listens on `port` for a moment and returns the assigned port (0: any); undefined when it is taken. */
function tryListen(port: number): Promise<number | undefined> {
  return new Promise((resolve) => {
    const server = createServer();
    server.once('error', () => resolve(undefined));
    server.listen({ port, host: '127.0.0.1', exclusive: true }, () => {
      const { port: assigned } = server.address() as AddressInfo;
      server.close(() => resolve(assigned));
    });
  });
}
