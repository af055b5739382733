/**
 * Counts events of the hot paths in plain numbers, which are read at each scrape. Counts even when metrics
 * are off: an addition costs less than checking the setting.
 */
export class Counters {
  messagesReceived = 0;
  bytesReceived = 0;
  deliveries = 0;
  bytesSent = 0;
  writes = 0;
  slowConsumers = 0;
  changesRead = 0;
  rowsEvaluated = 0;
  changesDelivered = 0;
  changesFiltered = 0;
  changeErrors = 0;
  changesTooLarge = 0;
  claimsReplaced = 0;
  sqlMessages = 0;
  sqlMessagesRefused = 0;
  readonly published = { websocket: 0, http: 0 };
  readonly refusals = new Map<string, number>();
  readonly destroyedSockets = new Map<string, number>();
  #observeFanOut: ((seconds: number) => void) | undefined;

  /** Counts an error sent to a client. */
  refused(code: string): void {
    this.refusals.set(code, (this.refusals.get(code) ?? 0) + 1);
  }

  /** Counts a socket that the server destroyed, by reason. */
  destroyed(reason: string): void {
    this.destroyedSockets.set(reason, (this.destroyedSockets.get(reason) ?? 0) + 1);
  }

  fanOutMs(ms: number): void {
    this.#observeFanOut?.(ms / 1000);
  }

  /** Calls `observe` with the duration of every fan-out, in seconds. */
  onFanOut(observe: (seconds: number) => void): void {
    this.#observeFanOut = observe;
  }
}
