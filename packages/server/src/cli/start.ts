import { settingsHelp } from '../config/describe-settings.js';
import { formatDuration } from '../lib/duration.js';
import { createLog } from '../lib/log.js';
import type { Command } from './command.js';
import { greeting } from './greeting.js';
import { settingsOfArguments } from './settings-of-arguments.js';
import { StopSignal } from './stop-signal.js';

/** `start`: runs the server until a signal ends it. */
export const start: Command = {
  name: 'start',
  summary: 'Run the server (the default command)',
  help: () => `Usage: goforward-realtime start [--<setting> <value>]...

Runs the server. Without any setting it brings its own PostgreSQL and listens on localhost:8080.
Every flag is also an environment variable: --max-channels is REALTIME_MAX_CHANNELS.

${settingsHelp()}`,
  run: async (args) => {
    const { loaded } = settingsOfArguments(args);
    const { settings } = loaded;
    const log = createLog(settings.logLevel);
    const stop = new StopSignal(log, settings.shutdownTimeout);
    // Here and not above: the other commands, and a mistake in the settings, need none of what makes a server.
    const { RealtimeServer } = await import('../server.js');
    try {
      stop.signal.throwIfAborted();
      const server = await RealtimeServer.start(settings, { log, signal: stop.signal });
      if (!stop.signal.aborted) process.stdout.write(`${await greeting(server, settings)}\n`);
      await stop.asked;
      log.info({ within: formatDuration(settings.shutdownTimeout) }, 'Stopping');
      await server.stop();
      log.info({}, 'Stopped');
      return stop.exitCode;
    } catch (error) {
      if (!stop.signal.aborted) throw error;
      // A start that was given up ends so; anything else went wrong while stopping.
      if (error instanceof Error && error.name === 'AbortError') return stop.exitCode;
      log.error({ err: error }, 'The server did not stop in order');
      return 1;
    }
  },
};
