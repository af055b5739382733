import { explainClose, UNREACHABLE } from './error-texts.js';
import { fetchHandshakeError } from './handshake-error.js';
import { PendingRequests } from './pending-requests.js';

const CONNECT_TIMEOUT_MS = 15_000;
const FIRST_DELAY_MS = 500;
const LONGEST_DELAY_MS = 30_000;
/** After this time connected, the reconnect delay starts at its minimum again. */
const STABLE_MS = 5_000;
/** An error within this time before a close is its cause. */
const CAUSE_MS = 2_000;
/** Close codes from here on forbid reconnecting. */
const FINAL_CLOSE_CODE = 4500;

/**
 * @typedef {'disconnected' | 'connecting' | 'connected'} Phase
 * @typedef {{ channel: string, token: string }} Target
 * @typedef {import('./error-texts.js').Fault} Fault
 * @typedef {import('./error-texts.js').Explanation} Explanation
 * @typedef {{ id: string, type: string, event: string, payload: any, user_id: string, timestamp: string, ref?: string | number, cursor?: string }} Message
 *
 * @typedef {object} ConnectionOptions
 * @property {(phase: Phase, retryAt: number | null) => void} onPhase `retryAt`: when the next attempt is due, if one is scheduled
 * @property {(message: Message) => void} onMessage called for each message except replies
 * @property {(problem: Explanation, isNews: boolean) => void} onProblem why a connection ended or failed; `isNews`:
 *   no earlier message reported it
 * @property {(refused: string) => Promise<string | null>} renewToken returns a new token for a refused one, or null
 */

/** A connection to one channel. It reconnects where the close code allows it. */
export class Connection {
  #options;
  /** @type {Phase} */
  #phase = 'disconnected';
  /** @type {Target | null} */
  #target = null;
  /** The cursor of the last row change: a reconnect resumes after it. */
  #cursor = '';
  /** @type {WebSocket | null} */
  #socket = null;
  /** @type {Fault | null} */
  #fault = null;
  #faultAt = 0;
  #requests = new PendingRequests();
  #failures = 0;
  #connectedAt = 0;
  #receivedAt = 0;
  #deadline = 0;
  #retryTimer = 0;

  /** @param {ConnectionOptions} options */
  constructor(options) {
    this.#options = options;
  }

  get phase() {
    return this.#phase;
  }

  /** The channel and token of the current connection; null while there is none. */
  get target() {
    return this.#phase === 'connected' ? this.#target : null;
  }

  /** When the last message was received, in milliseconds of `performance.now()`. */
  get receivedAt() {
    return this.#receivedAt;
  }

  /**
   * Connects, and closes the connection before.
   *
   * @param {string} channel
   * @param {string} token
   */
  open(channel, token) {
    this.#leave();
    this.#failures = 0;
    this.#cursor = '';
    this.#target = { channel, token };
    this.#connect(this.#target);
  }

  /** Closes the connection and stops reconnecting. */
  close() {
    this.#leave();
    this.#setPhase('disconnected');
  }

  /** Reconnects at once if an attempt is scheduled. */
  retryNow() {
    if (this.#retryTimer !== 0 && this.#target !== null) this.#connect(this.#target);
  }

  /** Treats a silent connection as lost, before the network reports it. */
  treatAsLost() {
    if (this.#socket !== null) this.#ended(this.#socket, 1006, '');
  }

  /**
   * Sends a message and resolves with the payload of its reply; rejects with a fault.
   *
   * @param {string} type
   * @param {string} event
   * @param {unknown} payload
   * @returns {Promise<any>}
   */
  request(type, event, payload) {
    const socket = this.#socket;
    if (socket === null || this.#phase !== 'connected') return Promise.reject({ code: 'NOT_CONNECTED' });
    const { ref, reply } = this.#requests.add();
    socket.send(JSON.stringify({ type, event, payload, ref }));
    return reply;
  }

  /** @param {Target} target */
  #connect(target) {
    clearTimeout(this.#retryTimer);
    this.#retryTimer = 0;
    this.#fault = null;
    this.#setPhase('connecting');
    const scheme = location.protocol === 'https:' ? 'wss' : 'ws';
    const url = `${scheme}://${location.host}/realtime/channels/${encodeURIComponent(target.channel)}/ws`;
    const resume = this.#cursor === '' ? '' : `?cursor=${encodeURIComponent(this.#cursor)}`;
    // The token is sent as a subprotocol, because addresses end up in logs.
    const socket = new WebSocket(url + resume, ['goforward.v1', `bearer.${target.token}`]);
    this.#socket = socket;
    this.#deadline = setTimeout(() => this.#ended(socket, 1006, ''), CONNECT_TIMEOUT_MS);
    socket.addEventListener('message', ({ data }) => this.#received(socket, data));
    socket.addEventListener('close', ({ code, reason }) => this.#ended(socket, code, reason));
  }

  /**
   * @param {WebSocket} socket
   * @param {unknown} data
   */
  #received(socket, data) {
    if (socket !== this.#socket || typeof data !== 'string') return;
    this.#receivedAt = performance.now();
    /** @type {Message} */
    const message = JSON.parse(data);
    if (this.#requests.settle(message)) return;
    if (message.cursor !== undefined) this.#cursor = message.cursor;
    if (message.type === 'system' && message.event === 'connected') {
      clearTimeout(this.#deadline);
      this.#connectedAt = performance.now();
      this.#cursor = message.payload.cursor ?? this.#cursor;
      this.#setPhase('connected');
    }
    if (message.type === 'system' && message.event === 'error') this.#remember(message.payload);
    if (message.type === 'system' && message.event === 'channel_closed') {
      this.#remember({ code: 'CHANNEL_CLOSED', reason: message.payload.reason });
    }
    this.#options.onMessage(message);
  }

  /** @param {Fault} fault */
  #remember(fault) {
    this.#fault = fault;
    this.#faultAt = performance.now();
  }

  /** The error right before a close, which explains it. */
  get #cause() {
    return performance.now() - this.#faultAt < CAUSE_MS ? this.#fault : null;
  }

  /**
   * @param {WebSocket} socket
   * @param {number} code
   * @param {string} reason
   */
  #ended(socket, code, reason) {
    const target = this.#target;
    if (socket !== this.#socket || target === null) return;
    const wasConnected = this.#phase === 'connected';
    if (wasConnected && performance.now() - this.#connectedAt > STABLE_MS) this.#failures = 0;
    this.#dropSocket();
    this.#setPhase('connecting');
    const cause = this.#cause;
    const unexplained = code === 1006 && !wasConnected && cause === null;
    const next = unexplained
      ? this.#handleRefusal(target)
      : this.#handleClose(
          target,
          explainClose(code, reason, cause),
          cause === null,
          code,
          cause?.retry_after,
        );
    next.catch(() => this.#retry(target));
  }

  /**
   * Gets the reason of a refused handshake over HTTP, because a browser cannot read it.
   *
   * @param {Target} target
   */
  async #handleRefusal(target) {
    const refusal = await fetchHandshakeError(target.channel, target.token);
    if (target !== this.#target) return;
    if (refusal.reachable) {
      const { closeCode, fault } = refusal;
      return this.#handleClose(
        target,
        explainClose(closeCode, '', fault),
        true,
        closeCode,
        fault?.retry_after,
      );
    }
    this.#options.onProblem(UNREACHABLE, true);
    this.#retry(target);
  }

  /**
   * Acts on a close code: renews the token, stops, or schedules a reconnect.
   *
   * @param {Target} target
   * @param {Explanation} problem
   * @param {boolean} isNews
   * @param {number} code
   * @param {number} [retryAfter] seconds requested by the server
   */
  async #handleClose(target, problem, isNews, code, retryAfter) {
    if (code === 4401) {
      const token = await this.#options.renewToken(target.token);
      if (target !== this.#target) return;
      if (token !== null) {
        this.#target = { ...target, token };
        return this.#connect(this.#target);
      }
    }
    this.#options.onProblem(problem, isNews);
    if (code === 4401 || code >= FINAL_CLOSE_CODE) return this.close();
    this.#retry(target, retryAfter);
  }

  /**
   * @param {Target} target
   * @param {number} [retryAfter] seconds requested by the server
   */
  #retry(target, retryAfter = 0) {
    if (target !== this.#target) return;
    // Full jitter: clients of a restarted server must not reconnect all at once.
    const ceiling = Math.min(LONGEST_DELAY_MS, FIRST_DELAY_MS * 2 ** this.#failures);
    const delay = retryAfter * 1000 + Math.max(100, Math.random() * ceiling);
    this.#failures += 1;
    this.#retryTimer = setTimeout(() => this.#connect(target), delay);
    this.#setPhase('connecting', Date.now() + delay);
  }

  #leave() {
    this.#target = null;
    clearTimeout(this.#retryTimer);
    this.#retryTimer = 0;
    this.#dropSocket();
  }

  #dropSocket() {
    const socket = this.#socket;
    this.#socket = null;
    clearTimeout(this.#deadline);
    socket?.close(1000);
    this.#requests.rejectAll();
  }

  /**
   * @param {Phase} phase
   * @param {number | null} [retryAt]
   */
  #setPhase(phase, retryAt = null) {
    this.#phase = phase;
    this.#options.onPhase(phase, retryAt);
  }
}
