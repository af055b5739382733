import { StartupError } from '../lib/startup-error.js';

/** The one line for an operator whose server cannot listen; any other error as it is. */
export function listenError(cause: unknown, host: string, port: number, variable: string): unknown {
  const code = cause instanceof Error && 'code' in cause ? cause.code : undefined;
  switch (code) {
    case 'EADDRINUSE':
      return new StartupError(
        `Port ${port} on ${host} is taken by another program. Stop that one, or set ${variable} to a free port.`,
        { cause },
      );
    case 'EACCES':
      return new StartupError(
        `This account may not listen on port ${port}. Set ${variable} to one above 1023.`,
        { cause },
      );
    case 'EADDRNOTAVAIL':
    case 'ENOTFOUND':
    case 'EAI_AGAIN':
      return new StartupError(
        `${host} is not an address of this machine. Set REALTIME_HOST to one, or to 0.0.0.0.`,
        {
          cause,
        },
      );
    default:
      return cause;
  }
}
