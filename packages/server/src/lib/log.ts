import { type DestinationStream, pino } from 'pino';
import pretty from 'pino-pretty';

export const LOG_LEVELS = ['fatal', 'error', 'warn', 'info', 'debug', 'trace', 'silent'] as const;
export type LogLevel = (typeof LOG_LEVELS)[number];

export const LOG_FORMATS = ['auto', 'pretty', 'json'] as const;
export type LogFormat = (typeof LOG_FORMATS)[number];

type Write = (fields: Record<string, unknown>, message: string) => void;

/** The log as its users see it: fields first, then a constant sentence. Never a token, payload or secret. */
export interface Log {
  debug: Write;
  info: Write;
  warn: Write;
  error: Write;
  child(fields: Record<string, unknown>): Log;
}

/** A pino log on standard error, unless another destination is given. Standard output stays free for answers. */
export function createLog(level: LogLevel, destination: DestinationStream = standardError('auto')): Log {
  return pino(
    {
      level,
      base: null,
      timestamp: pino.stdTimeFunctions.isoTime,
      serializers: { err: errorWithoutSecrets },
    },
    destination,
  );
}

/** Whether a log of this format is JSON: `auto` is pretty on a terminal and JSON elsewhere. */
export function isJson(format: LogFormat, isTerminal: boolean = process.stderr.isTTY): boolean {
  return format === 'json' || (format === 'auto' && !isTerminal);
}

/** Standard error, as lines for people or as JSON. */
export function standardError(format: LogFormat): DestinationStream {
  if (isJson(format)) return pino.destination({ dest: 2, sync: true });
  const colorize = process.stderr.isTTY;
  return pretty({
    destination: 2,
    sync: true,
    colorize,
    translateTime: 'SYS:HH:MM:ss',
    ignore: 'pid,hostname',
  });
}

/** Type, message, code and stack; not the rest of the error's fields, which may carry query values or request headers. */
function errorWithoutSecrets(error: unknown): unknown {
  if (!(error instanceof Error)) return String(error);
  const { code } = error as { code?: unknown };
  return {
    type: error.name,
    message: error.message,
    ...(code === undefined ? {} : { code }),
    stack: error.stack,
  };
}

/** A log that drops everything. */
export const silentLog: Log = {
  debug: () => undefined,
  info: () => undefined,
  warn: () => undefined,
  error: () => undefined,
  child: () => silentLog,
};
