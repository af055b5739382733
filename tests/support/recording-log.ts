import type { Log } from '@goforward/realtime';

/** A log that keeps info, warning and error lines as text. */
export class RecordingLog implements Log {
  readonly infos: string[] = [];
  readonly warnings: string[] = [];
  readonly errors: string[] = [];

  debug(): void {
    return;
  }

  info(fields: Record<string, unknown>, message: string): void {
    this.infos.push(`${message} ${JSON.stringify(fields)}`);
  }

  warn(_fields: Record<string, unknown>, message: string): void {
    this.warnings.push(message);
  }

  error(fields: Record<string, unknown>, message: string): void {
    const { err } = fields;
    this.errors.push(`${message} ${err instanceof Error ? err.stack : JSON.stringify(fields)}`);
  }

  child(): Log {
    return this;
  }
}
