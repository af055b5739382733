import { lookup } from 'node:dns/promises';
import { once } from 'node:events';
import type { Server } from 'node:http';
import { createServer } from 'node:net';
import { StartupError } from '../lib/startup-error.js';

/** Returns a StartupError with the fix if the server cannot listen; any other error unchanged. */
export function listenError(cause: unknown, host: string, port: number, variable: string): unknown {
  const code = cause instanceof Error && 'code' in cause ? cause.code : undefined;
  switch (code) {
    case 'EADDRINUSE':
      return new StartupError(
        `Port ${port} on ${host} is taken by another program. Stop that program, or set ${variable} to a free port.`,
        { cause },
      );
    case 'EACCES':
      return new StartupError(
        `This account may not listen on port ${port}. Set ${variable} to a port above 1023.`,
        { cause },
      );
    case 'EADDRNOTAVAIL':
    case 'ENOTFOUND':
    case 'EAI_AGAIN':
      return new StartupError(
        `${host} is not an address of this machine. Set REALTIME_HOST to an address of this machine, or to 0.0.0.0.`,
        {
          cause,
        },
      );
    default:
      return cause;
  }
}

/**
 * A server listens on the first address of a host; `localhost` usually is 127.0.0.1 and ::1. Passes the
 * connections of the other addresses to it, until it is closed. An address on which the port is taken or that
 * the machine lacks is left out.
 */
export async function listenOnOtherAddresses(server: Server, host: string): Promise<void> {
  const first = server.address();
  if (typeof first !== 'object' || first === null) return;
  for (const { address } of await lookup(host, { all: true })) {
    if (address === first.address) continue;
    const options = { allowHalfOpen: true, noDelay: true };
    const other = createServer(options, (socket) => void server.emit('connection', socket));
    server.once('close', () => other.close());
    other.listen(first.port, address);
    await once(other, 'listening').catch(() => other.close());
    other.on('error', () => undefined);
  }
}
