import { PendingRequests } from './pending-requests.js';
import { askWhyRefused } from './refusal.js';
import { explainClose, UNREACHABLE } from './words.js';

const CONNECT_TIMEOUT_MS = 15_000;
const FIRST_DELAY_MS = 500;
const LONGEST_DELAY_MS = 30_000;
/** A connection that lived for so long was a good one: the next loss starts from the first delay again. */
const STABLE_MS = 5_000;
/** An error that came so shortly before a close is its cause. */
const CAUSE_MS = 2_000;
/** Close codes from here on forbid to connect again. */
const FINAL_CLOSE_CODE = 4500;

/**
 * @typedef {'disconnected' | 'connecting' | 'connected'} Phase
 * @typedef {{ channel: string, token: string }} Target
 * @typedef {import('./words.js').Fault} Fault
 * @typedef {import('./words.js').Explanation} Explanation
 * @typedef {{ id: string, type: string, event: string, payload: any, user_id: string, timestamp: string, ref?: string | number, cursor?: string }} Message
 *
 * @typedef {object} ConnectionOptions
 * @property {(phase: Phase, retryAt: number | null) => void} onPhase `retryAt`: when the next try is due, while waiting for it
 * @property {(message: Message) => void} onMessage every message but replies
 * @property {(problem: Explanation, isNews: boolean) => void} onProblem why a connection ended or did not come about;
 *   `isNews`: no message before has told it
 * @property {(refused: string) => Promise<string | null>} renewToken a token in place of a refused one, or null
 */

/** One socket in one channel that comes back by itself where the close code allows it. */
export class Connection {
  #options;
  /** @type {Phase} */
  #phase = 'disconnected';
  /** @type {Target | null} */
  #target = null;
  /** Up to where the row changes are here: after a lost connection those behind it come first. */
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

  /** Where it is connected, and with which token; null while it is not. */
  get target() {
    return this.#phase === 'connected' ? this.#target : null;
  }

  /** When the last message came, in milliseconds of `performance.now()`. */
  get receivedAt() {
    return this.#receivedAt;
  }

  /**
   * Connects, in place of what was connected before.
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

  /** Ends the connection, or the tries for one, for good. */
  close() {
    this.#leave();
    this.#setPhase('disconnected');
  }

  /** Tries at once where a wait for the next try is going on. */
  retryNow() {
    if (this.#retryTimer !== 0 && this.#target !== null) this.#connect(this.#target);
  }

  /** The other side went silent: does not wait for the network to notice. */
  giveUp() {
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
    const back = this.#cursor === '' ? '' : `?cursor=${encodeURIComponent(this.#cursor)}`;
    // The token travels as a sub-protocol: an address ends up in logs and histories.
    const socket = new WebSocket(url + back, ['goforward.v1', `bearer.${target.token}`]);
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

  /** The fault that explains a close: only one that came right before it. */
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
      ? this.#followRefusal(target)
      : this.#follow(target, explainClose(code, reason, cause), cause === null, code, cause?.retry_after);
    next.catch(() => this.#retry(target));
  }

  /**
   * A browser cannot read a refused handshake, so the reason is asked for over HTTP.
   *
   * @param {Target} target
   */
  async #followRefusal(target) {
    const refusal = await askWhyRefused(target.channel, target.token);
    if (target !== this.#target) return;
    if (refusal.reachable) {
      const { closeCode, fault } = refusal;
      return this.#follow(target, explainClose(closeCode, '', fault), true, closeCode, fault?.retry_after);
    }
    this.#options.onProblem(UNREACHABLE, true);
    this.#retry(target);
  }

  /**
   * What a close code demands: a new token, an end, or another try.
   *
   * @param {Target} target
   * @param {Explanation} problem
   * @param {boolean} isNews
   * @param {number} code
   * @param {number} [retryAfter] seconds that the server asked for
   */
  async #follow(target, problem, isNews, code, retryAfter) {
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
   * @param {number} [retryAfter] seconds that the server asked for
   */
  #retry(target, retryAfter = 0) {
    if (target !== this.#target) return;
    // Full jitter: the clients of a server that restarts must not come back as one wave.
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
    this.#requests.abandon();
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
