import { createHash, randomBytes } from 'node:crypto';
import { connect } from 'node:net';
import { DIGITS, MARK, MESSAGE_BYTES } from './bench-message.mjs';
import { clientFrame, FrameReader, OPCODE } from './frames.mjs';

/** The constant of RFC 6455, section 1.3. */
const HANDSHAKE_GUID = '258EAFA5-E914-47DA-95CA-C5AB0DC85B11';
/** All members read into the same buffer, one after the other: what the client itself costs stays small. */
const READ_BUFFER = Buffer.alloc(256 * 1024);

/** Presence and the like, which our server sends beside what is published. */
const EXPECTED = /^\{"id":"[^"]*","type":"(?:presence"|system","event":"connected")/;

/**
 * What members tell their owner. `message` is called for each published message in its place, `fault` for
 * anything that must not happen.
 * @typedef {{ message(json: () => string, sequence: number): void, fault(text: string): void }} Listener
 */

/** One raw WebSocket connection that checks the sequence of every published message it gets. */
export class Member {
  /** @type {import('node:net').Socket} */
  #socket;
  /** @type {Listener} */
  #listener;
  #reader = new FrameReader((opcode, bytes, start, end) => this.#frame(opcode, bytes, start, end));
  /** @type {Buffer | undefined} */
  #handshake = Buffer.alloc(0);
  #accept = '';
  /** @type {(() => void) | undefined} */
  #opened;
  /** Where the mark stands in a message; the same in all messages of a server. */
  #markAt = -1;
  #next = 0;
  #isLeaving = false;
  /** Bytes that came, of whatever kind. */
  received = 0;

  /**
   * Opens a connection and resolves when the handshake is done.
   * @param {{ port: number, path: string }} target
   * @param {Listener} listener
   * @returns {Promise<Member>}
   */
  static open(target, listener) {
    return new Promise((resolve, reject) => {
      const member = new Member(target, listener, () => resolve(member), reject);
    });
  }

  /** Use `open`. @private */
  constructor(target, listener, opened, failed) {
    this.#listener = listener;
    this.#opened = opened;
    const key = randomBytes(16).toString('base64');
    this.#accept = createHash('sha1').update(`${key}${HANDSHAKE_GUID}`).digest('base64');
    this.#socket = connect({
      host: '127.0.0.1',
      port: target.port,
      noDelay: true,
      onread: { buffer: READ_BUFFER, callback: (length, buffer) => this.#read(buffer.subarray(0, length)) },
    });
    this.#socket.on('error', (error) => {
      if (this.#opened !== undefined) failed(error);
      else if (!this.#isLeaving) listener.fault(`a connection broke: ${error.message}`);
    });
    this.#socket.on('close', () => {
      if (this.#opened !== undefined) failed(new Error('closed in the handshake'));
      else if (!this.#isLeaving) listener.fault('a connection was closed');
    });
    this.#socket.write(
      `GET ${target.path} HTTP/1.1\r\nHost: 127.0.0.1:${target.port}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n` +
        `Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: ${key}\r\n\r\n`,
    );
  }

  /** Sends messages in one write. @param {readonly string[]} messages */
  publish(messages) {
    this.#socket.write(
      Buffer.concat(messages.map((message) => clientFrame(OPCODE.text, Buffer.from(message)))),
    );
  }

  /** Ends at once and without leaving the port in TIME_WAIT. */
  leave() {
    this.#isLeaving = true;
    this.#socket.resetAndDestroy();
  }

  #read(piece) {
    this.received += piece.length;
    try {
      if (this.#handshake === undefined) this.#reader.read(piece);
      else this.#shakeHands(Buffer.concat([this.#handshake, piece]));
    } catch (error) {
      this.#listener.fault(error.message);
      this.leave();
    }
    return true;
  }

  #shakeHands(bytes) {
    this.#handshake = bytes;
    const end = bytes.indexOf('\r\n\r\n');
    if (end < 0) return;
    const head = bytes.toString('latin1', 0, end);
    if (!head.startsWith('HTTP/1.1 101') || !head.includes(this.#accept)) {
      throw new Error(`the handshake was answered with ${bytes.toString('utf8')}`);
    }
    this.#handshake = undefined;
    this.#opened?.();
    this.#opened = undefined;
    this.#reader.read(bytes.subarray(end + 4));
  }

  #frame(opcode, bytes, start, end) {
    if (opcode === OPCODE.text) {
      if (!this.#isPublished(bytes, start, end)) this.#unpublished(bytes.toString('latin1', start, end));
    } else if (opcode === OPCODE.ping) {
      this.#socket.write(clientFrame(OPCODE.pong, Buffer.from(bytes.subarray(start, end))));
    } else {
      this.#listener.fault(`a frame of opcode ${opcode} came`);
    }
  }

  #isPublished(bytes, start, end) {
    if (end - start !== MESSAGE_BYTES) return false;
    if (this.#markAt < 0) this.#markAt = bytes.subarray(start, end).indexOf(MARK);
    if (this.#markAt < 0) return false;
    const mark = start + this.#markAt;
    for (let i = 0; i < MARK.length; i++) if (bytes[mark + i] !== MARK[i]) return false;
    let sequence = 0;
    const first = mark + MARK.length;
    for (let i = first; i < first + DIGITS; i++) sequence = sequence * 10 + bytes[i] - 0x30;
    if (sequence !== this.#next) {
      this.#listener.fault(`message ${sequence} came where ${this.#next} was due`);
    }
    this.#next = sequence + 1;
    this.#listener.message(() => bytes.toString('utf8', start, end), sequence);
    return true;
  }

  #unpublished(json) {
    if (!EXPECTED.test(json)) this.#listener.fault(`an unexpected message came: ${json}`);
  }
}
