import { settingsHelp } from '../config/describe-settings.js';
import type { Settings } from '../config/settings-table.js';
import { formatDuration } from '../lib/duration.js';
import { createLog, isJson, standardError } from '../lib/log.js';
import type { Command } from './command.js';
import { parseArguments } from './parse-arguments.js';
import { startupBanner, startupFields } from './startup-banner.js';
import { StopSignal } from './stop-signal.js';

/** `start`: runs the server until a signal stops it. */
export const start: Command = {
  name: 'start',
  summary: 'Run the server',
  usage: '[--<setting> <value>]...',
  help: () => `Runs the server. Without settings it starts an embedded PostgreSQL and listens on localhost:8080.
Each flag is also an environment variable: --max-channels is REALTIME_MAX_CHANNELS.

${settingsHelp()}`,
  run: async (args) => {
    const { loaded } = parseArguments(args);
    const { settings } = loaded;
    const log = createLog(settings.logLevel, standardError(settings.logFormat));
    const stop = new StopSignal(log, settings.shutdownTimeout);
    // Imported here: other commands, and a mistake in the settings, must not wait for the whole server to load.
    const { RealtimeServer } = await import('../server.js');
    try {
      stop.signal.throwIfAborted();
      const server = await RealtimeServer.start(settings, { log, signal: stop.signal });
      if (!stop.signal.aborted) {
        if (isJson(settings.logFormat)) log.info(startupFields(server, settings), 'Server started');
        if (hasBanner(settings)) process.stdout.write(`${await startupBanner(server, settings)}\n`);
      }
      await stop.requested;
      log.info({ within: formatDuration(settings.shutdownTimeout) }, 'Stopping');
      await server.stop();
      log.info({}, 'Stopped');
      return stop.exitCode;
    } catch (error) {
      if (!stop.signal.aborted) throw error;
      // A start that a signal interrupted ends with AbortError; any other error is a failed stop.
      if (error instanceof Error && error.name === 'AbortError') return stop.exitCode;
      log.error({ err: error }, 'The server failed while stopping');
      return 1;
    }
  },
};

/** Not where a program reads the output; a person at a terminal sees the banner, wherever the log goes. */
function hasBanner({ logFormat }: Settings): boolean {
  return logFormat !== 'json' && (process.stdout.isTTY || !isJson(logFormat));
}
