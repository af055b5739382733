import { type DestinationStream, pino } from 'pino';
import pretty from 'pino-pretty';

export const LOG_LEVELS = ['fatal', 'error', 'warn', 'info', 'debug', 'trace', 'silent'] as const;
export type LogLevel = (typeof LOG_LEVELS)[number];

export const LOG_FORMATS = ['auto', 'pretty', 'json'] as const;
export type LogFormat = (typeof LOG_FORMATS)[number];

type Write = (fields: Record<string, unknown>, message: string) => void;

/** Writes structured log lines: fields, then a constant message. Never pass a token, payload or secret. */
export interface Log {
  debug: Write;
  info: Write;
  warn: Write;
  error: Write;
  child(fields: Record<string, unknown>): Log;
}

/** Creates a pino log on standard error, or at `destination`. Standard output is left to the output of commands. */
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

/** Keeps type, message, code and stack of an error. Other fields may hold query values or headers. */
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

/** A log that discards everything. */
export const silentLog: Log = {
  debug: () => undefined,
  info: () => undefined,
  warn: () => undefined,
  error: () => undefined,
  child: () => silentLog,
};
