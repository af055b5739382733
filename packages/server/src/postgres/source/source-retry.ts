import { setTimeout as delay } from 'node:timers/promises';
import { ProtocolError } from '@goforward/realtime-protocol';
import { monotonicClock } from '../../lib/clock.js';
import type { Log } from '../../lib/log.js';
import { backoffDelay } from '../connection/backoff.js';
import { connectionFault } from '../connection/connection-fault.js';
import type { ConnectionTarget } from '../connection/connection-target.js';
import type { Database } from '../connection/database.js';
import type { ChangeSink, Finding, SourceState } from './change-source.js';

export interface SourceRetryOptions {
  /** A `postgres://` URL of PostgreSQL itself. */
  readonly url: string;
  readonly database: Database;
  readonly maxReconnectDelayMs: number;
  readonly random: () => number;
  readonly log: Log;
}

/** How often the log repeats the same problem, in ms. */
const REPEAT_WARNING_MS = 60_000;

/**
 * Runs sessions of a change source with exponential backoff until `stop`, and reports the state to sink and
 * log.
 */
export class SourceRetry {
  readonly #options: SourceRetryOptions;
  readonly #stopping = new AbortController();
  readonly signal: AbortSignal = this.#stopping.signal;
  state: SourceState = { status: 'connecting' };
  #failures = 0;
  #lastReported: { reason: string; at: number } | undefined;

  constructor(options: SourceRetryOptions) {
    this.#options = options;
  }

  /** Ends retrying. */
  stop(): void {
    this.#stopping.abort();
  }

  /** Called by a session when its stream is open. */
  succeeded(): void {
    this.state = { status: 'streaming' };
    this.#lastReported = undefined;
  }

  /** Runs one session after the other until `stop`. A session calls `opened` after it has opened the sink. */
  async run(
    sink: ChangeSink,
    session: (opened: () => void) => Promise<void>,
    cleanUp: () => void,
  ): Promise<void> {
    const { signal } = this;
    while (!signal.aborted) {
      let wasOpen = false;
      try {
        await session(() => {
          wasOpen = true;
        });
        if (!signal.aborted) this.#goDown(sink, wasOpen, 'PostgreSQL ended the stream');
      } catch (error) {
        if (!signal.aborted) this.#failed(sink, wasOpen, error);
      } finally {
        cleanUp();
      }
      if (wasOpen) this.#failures = 0;
      const { maxReconnectDelayMs, random } = this.#options;
      const pause = backoffDelay(this.#failures++, maxReconnectDelayMs, random);
      await delay(pause, undefined, { signal }).catch(() => undefined);
    }
    this.state = { status: 'stopped' };
  }

  /** Throws when there are findings of severity error; logs the warnings. */
  requireNoErrors(findings: readonly Finding[]): void {
    const errors = findings.filter(({ severity }) => severity === 'error');
    if (errors.length > 0) throw new SourceRefusedError(errors);
    for (const { code, title, advice } of findings) this.#warn(`${code} ${title}`, { code, advice }, title);
  }

  #failed(sink: ChangeSink, wasOpen: boolean, error: unknown): void {
    if (error instanceof SourceRefusedError) {
      this.state = { status: 'refused', findings: error.findings };
      if (wasOpen) sink.closed('row changes cannot be read');
      for (const { code, title, advice } of error.findings) {
        this.#warn(`${code} ${title}`, { code, advice }, `Row changes cannot be read: ${title}`);
      }
      return;
    }
    this.#goDown(sink, wasOpen, this.#reasonOf(error), error);
  }

  #goDown(sink: ChangeSink, wasOpen: boolean, reason: string, error?: unknown): void {
    this.state = { status: 'down', reason };
    if (wasOpen) sink.closed(reason);
    this.#warn(
      reason,
      { reason, ...(error === undefined ? {} : { err: error }) },
      'Row changes are not streaming; retrying in the background',
    );
  }

  /** Returns the reason of a failure in a few words, without roles and secrets. */
  #reasonOf(error: unknown): string {
    if (error instanceof ProtocolError) {
      const { state } = this.#options.database;
      return state.status === 'down' ? state.reason : 'the database is unreachable';
    }
    if (error instanceof Error && 'code' in error && error.code === '55006')
      return 'the replication slot is still held by an earlier connection';
    const { hostname, port, pathname } = new URL(this.#options.url);
    const target: ConnectionTarget = {
      address: `${hostname}:${port === '' ? '5432' : port}`,
      host: hostname,
      database: pathname.slice(1),
      user: '',
    };
    return connectionFault(error, target)?.reason ?? 'the stream could not be read';
  }

  #warn(key: string, fields: Record<string, unknown>, message: string): void {
    const now = monotonicClock();
    if (this.#lastReported?.reason === key && now - this.#lastReported.at < REPEAT_WARNING_MS) return;
    this.#lastReported = { reason: key, at: now };
    this.#options.log.warn(fields, message);
  }
}

/** Row changes cannot be read until the operator has fixed the findings. */
export class SourceRefusedError extends Error {
  readonly findings: readonly Finding[];

  constructor(findings: readonly Finding[]) {
    super(findings.map(({ code, title }) => `${code} ${title}`).join('; '));
    this.findings = findings;
  }
}
