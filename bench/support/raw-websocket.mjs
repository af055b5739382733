import { createHash, randomBytes } from 'node:crypto';
import { connect } from 'node:net';
import { clientFrame, FrameReader, OPCODE } from './frames.mjs';

/** The constant of RFC 6455, section 1.3. */
const HANDSHAKE_GUID = '258EAFA5-E914-47DA-95CA-C5AB0DC85B11';
/** Shared by all connections, which read one after the other, to keep the cost of the client small. */
const READ_BUFFER = Buffer.alloc(256 * 1024);

/**
 * The callbacks of a connection. `text` gets the position of a message in `bytes`, valid during the call;
 * `fault` is called for any violation.
 * @typedef {{ text(bytes: Buffer, start: number, end: number): void, fault(text: string): void }} TextListener
 */

/** A WebSocket client with minimal cost: it answers pings and passes text messages on as bytes. */
export class RawWebSocket {
  /** @type {import('node:net').Socket} */
  #socket;
  /** @type {TextListener} */
  #listener;
  #reader = new FrameReader((opcode, bytes, start, end) => this.#frame(opcode, bytes, start, end));
  /** @type {Buffer | undefined} */
  #handshake = Buffer.alloc(0);
  #accept = '';
  /** @type {(() => void) | undefined} */
  #opened;
  #isLeaving = false;
  /** The number of bytes received. */
  received = 0;

  /**
   * Opens a connection and resolves when the handshake is done.
   * @param {{ port: number, path: string }} target
   * @param {TextListener} listener
   * @returns {Promise<RawWebSocket>}
   */
  static open(target, listener) {
    return new Promise((resolve, reject) => {
      const socket = new RawWebSocket(target, listener, () => resolve(socket), reject);
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
      else if (!this.#isLeaving) listener.fault('a connection closed');
    });
    this.#socket.write(
      `GET ${target.path} HTTP/1.1\r\nHost: 127.0.0.1:${target.port}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n` +
        `Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: ${key}\r\n\r\n`,
    );
  }

  /** Sends messages in one write. @param {readonly string[]} messages */
  send(messages) {
    this.#socket.write(
      Buffer.concat(messages.map((message) => clientFrame(OPCODE.text, Buffer.from(message)))),
    );
  }

  /** Closes the connection at once, without leaving the port in TIME_WAIT. */
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
      throw new Error(`the handshake failed: ${bytes.toString('utf8')}`);
    }
    this.#handshake = undefined;
    this.#opened?.();
    this.#opened = undefined;
    this.#reader.read(bytes.subarray(end + 4));
  }

  #frame(opcode, bytes, start, end) {
    if (opcode === OPCODE.text) this.#listener.text(bytes, start, end);
    else if (opcode === OPCODE.ping) {
      this.#socket.write(clientFrame(OPCODE.pong, Buffer.from(bytes.subarray(start, end))));
    } else {
      this.#listener.fault(`unexpected frame with opcode ${opcode}`);
    }
  }
}
