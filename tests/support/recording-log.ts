import type { Log } from '@goforward/realtime';

/** A log that keeps what is logged as an error, as text, and drops the rest. */
export class RecordingLog implements Log {
  readonly errors: string[] = [];

  debug(): void {
    return;
  }

  info(): void {
    return;
  }

  warn(): void {
    return;
  }

  error(fields: Record<string, unknown>, message: string): void {
    const { err } = fields;
    this.errors.push(`${message} ${err instanceof Error ? err.stack : JSON.stringify(fields)}`);
  }

  child(): Log {
    return this;
  }
}
