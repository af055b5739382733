import { DIGITS, MARK } from './bench-message.mjs';
import { RawWebSocket } from './raw-websocket.mjs';

/** Messages that our server sends in addition to the published ones: presence and `connected`. */
const EXPECTED = /^\{"id":"[^"]*","type":"(?:presence"|system","event":"connected")/;

/**
 * The callbacks of a member. `message` is called for each published message, in order; `fault` for any
 * violation.
 * @typedef {{ message(json: () => string, sequence: number): void, fault(text: string): void }} Listener
 */

/** A member of the channel that checks the sequence of every published message it gets. */
export class Member {
  /** @type {RawWebSocket | undefined} */
  #socket;
  /** @type {Listener} */
  #listener;
  /** The offset of the mark in a message, nearly always the same as in the previous message. */
  #markAt = -1;
  #next = 0;

  /**
   * Opens a connection and resolves when the handshake is done.
   * @param {{ port: number, path: string }} target
   * @param {Listener} listener
   * @returns {Promise<Member>}
   */
  static async open(target, listener) {
    const member = new Member(listener);
    member.#socket = await RawWebSocket.open(target, {
      text: (bytes, start, end) => member.#text(bytes, start, end),
      fault: (text) => listener.fault(text),
    });
    return member;
  }

  /** Use `open`. @private */
  constructor(listener) {
    this.#listener = listener;
  }

  /** The number of bytes received. */
  get received() {
    return this.#socket?.received ?? 0;
  }

  /** Sends messages in one write. @param {readonly string[]} messages */
  publish(messages) {
    this.#socket?.send(messages);
  }

  /** Closes the connection at once, without leaving the port in TIME_WAIT. */
  leave() {
    this.#socket?.leave();
  }

  #text(bytes, start, end) {
    if (!this.#isPublished(bytes, start, end)) this.#unpublished(bytes.toString('latin1', start, end));
  }

  #isPublished(bytes, start, end) {
    let mark = start + this.#markAt;
    // After the end, the buffer contains other messages.
    if (this.#markAt < 0 || mark + MARK.length + DIGITS > end || !isMark(bytes, mark)) {
      this.#markAt = bytes.subarray(start, end).indexOf(MARK);
      if (this.#markAt < 0) return false;
      mark = start + this.#markAt;
    }
    let sequence = 0;
    const first = mark + MARK.length;
    for (let i = first; i < first + DIGITS; i++) sequence = sequence * 10 + bytes[i] - 0x30;
    if (sequence !== this.#next) {
      this.#listener.fault(`message ${sequence} arrived instead of ${this.#next}`);
    }
    this.#next = sequence + 1;
    this.#listener.message(() => bytes.toString('utf8', start, end), sequence);
    return true;
  }

  #unpublished(json) {
    if (!EXPECTED.test(json)) this.#listener.fault(`unexpected message: ${json}`);
  }
}

function isMark(bytes, at) {
  for (let i = 0; i < MARK.length; i++) if (bytes[at + i] !== MARK[i]) return false;
  return true;
}
