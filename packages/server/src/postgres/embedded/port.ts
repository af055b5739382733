import { createHash } from 'node:crypto';
import { type AddressInfo, createServer } from 'node:net';
import { join } from 'node:path';
import { readIfThere, writePrivately } from './private-file.js';

export const PORT_FILE = 'postgres-port';
/** Below the ports that systems give to outgoing connections, which take the place of a server that restarts. */
const FIRST_PORT = 20_000;
const PORTS = 10_000;
const NEIGHBOURS = 50;

/**
 * A free port on 127.0.0.1: the one that this folder used last, else one derived from the folder's name or a
 * neighbour of it. So connection strings that people keep go on working.
 */
export async function choosePort(dataDir: string): Promise<number> {
  const last = Number((await readIfThere(join(dataDir, PORT_FILE))) ?? 0);
  if (last > 0 && last < 65_536 && (await isFree(last))) return last;
  const derived = createHash('sha256').update(dataDir).digest().readUInt32BE() % PORTS;
  for (let i = 0; i < NEIGHBOURS; i++) {
    const port = FIRST_PORT + ((derived + i) % PORTS);
    if (port !== last && (await isFree(port))) return port;
  }
  return (await listened(0)) ?? 0;
}

export async function keepPort(dataDir: string, port: number): Promise<void> {
  const file = join(dataDir, PORT_FILE);
  if ((await readIfThere(file)) !== String(port)) await writePrivately(file, `${port}\n`, { mode: 0o644 });
}

async function isFree(port: number): Promise<boolean> {
  return (await listened(port)) !== undefined;
}

/** The port that listening on `port` gave, for a moment; undefined when it is taken. */
function listened(port: number): Promise<number | undefined> {
  return new Promise((resolve) => {
    const server = createServer();
    server.once('error', () => resolve(undefined));
    server.listen({ port, host: '127.0.0.1', exclusive: true }, () => {
      const { port: given } = server.address() as AddressInfo;
      server.close(() => resolve(given));
    });
  });
}
