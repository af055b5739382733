const REPLY_TIMEOUT_MS = 10_000;

/** @typedef {import('./error-texts.js').Fault} Fault */

/** Requests of a connection that wait for the reply with their `ref`. */
export class PendingRequests {
  /** @type {Map<string, { resolve: (payload: any) => void, reject: (fault: Fault) => void, timer: number }>} */
  #waiting = new Map();
  #count = 0;

  /**
   * Adds a request; its reply rejects with a fault.
   *
   * @returns {{ ref: string, reply: Promise<any> }}
   */
  add() {
    this.#count += 1;
    const ref = `page-${this.#count}`;
    const reply = new Promise((resolve, reject) => {
      const timer = setTimeout(() => this.#take(ref)?.reject({ code: 'NO_REPLY' }), REPLY_TIMEOUT_MS);
      this.#waiting.set(ref, { resolve, reject, timer });
    });
    return { ref, reply };
  }

  /**
   * Settles the request of a reply. Returns false for any other message.
   *
   * @param {import('./connection.js').Message} message
   */
  settle({ type, event, ref, payload }) {
    if (type !== 'reply') return false;
    // The request of a late reply has timed out and is no longer there.
    const request = this.#take(String(ref));
    if (event === 'error') request?.reject(payload);
    else request?.resolve(payload);
    return true;
  }

  /** Rejects all requests, after the connection was lost. */
  rejectAll() {
    for (const ref of this.#waiting.keys()) this.#take(ref)?.reject({ code: 'NO_REPLY' });
  }

  /** @param {string} ref */
  #take(ref) {
    const request = this.#waiting.get(ref);
    if (request === undefined) return undefined;
    clearTimeout(request.timer);
    this.#waiting.delete(ref);
    return request;
  }
}
