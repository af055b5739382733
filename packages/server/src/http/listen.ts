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
