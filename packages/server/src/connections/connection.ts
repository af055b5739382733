import type { Socket } from 'node:net';
import {
  CLOSE,
  ERRORS,
  LIMITS,
  type PresenceMode,
  ProtocolError,
  type ServerMessageType,
} from '@goforward/realtime-protocol';
import { type Identity, SYSTEM_USER } from '../auth/identity.js';
import type { Channel } from '../channels/channel.js';
import type { MessageEncoder } from '../channels/message-encoder.js';
import { rateLimitExceeded } from '../channels/rate-limit.js';
import type { Clock, WallClock } from '../lib/clock.js';
import type { JsonText } from '../lib/json-text.js';
import type { Log } from '../lib/log.js';
import { MIN_READING_RATE } from '../lib/reading-pace.js';
import type { Tick } from '../lib/tick.js';
import type { Timed, TimerWheel } from '../lib/timer-wheel.js';
import type { KeyedRateLimiter } from '../lib/token-bucket.js';
import type { SocketOwner } from './client-socket.js';
import { decode } from './decode.js';
import type { Dispatch } from './dispatch.js';
import { closeFrame, pingFrame, pongFrame } from './frame.js';
import { Outbox, type OutboxCounters } from './outbox.js';
import type { Session } from './session.js';

/** Counts received messages and errors; read when metrics are scraped. */
interface ConnectionCounters extends OutboxCounters {
  messagesReceived: number;
  bytesReceived: number;
  slowConsumers: number;
  /** Counts an error sent to a client, or with which a connection was closed. */
  refused(code: string): void;
}

/** The services and limits that all connections of a node share. */
export interface ConnectionEnvironment {
  readonly clock: Clock;
  /** Of the expiry of tokens. */
  readonly wallClock: WallClock;
  readonly tick: Tick;
  readonly wheel: TimerWheel;
  readonly encoder: MessageEncoder;
  readonly dispatch: Dispatch;
  readonly messageRate: KeyedRateLimiter;
  readonly counters: ConnectionCounters;
  readonly log: Log;
  readonly pingIntervalMs: number;
  /** A connection without messages and pongs for this time is closed as stale, in ms, unless it reads what waits. */
  readonly timeoutMs: number;
  readonly maxOutboxBytes: number;
  /** How long a connection goes on after its token's `exp`: the clock tolerance of tokens. */
  readonly tokenToleranceMs: number;
}

export interface ConnectionOptions {
  readonly id: string;
  readonly identity: Identity;
  /** Address of the client, for limits and the log. */
  readonly address: string;
  readonly echo: boolean;
  readonly presence: PresenceMode;
}

/** How long a closing connection may take to read pending messages and answer our close frame, in ms. */
const CLOSING_MS = 2_000;
const NEVER = Number.POSITIVE_INFINITY;
const PING = pingFrame();

/**
 * Runs one client's socket from `connected` to its end. Checks shape and rate of incoming messages and passes
 * them to the dispatch. All writes to the socket go through its outbox. States: open -> closing -> closed.
 */
export class Connection implements Session, SocketOwner, Timed {
  readonly id: string;
  readonly address: string;
  readonly echo: boolean;
  readonly presence: PresenceMode;
  /** The channel that this connection is a member of. */
  channel: Channel | undefined;
  wheelIndex = -1;
  wheelAt = 0;
  #identity: Identity;
  readonly #environment: ConnectionEnvironment;
  readonly #socket: Socket;
  readonly #outbox: Outbox;
  #state: 'open' | 'closing' | 'closed' = 'open';
  #lastReceived: number;
  #lastPing: number;
  /** When and with how many drained bytes `due` last looked whether the peer reads. */
  #lastLook: number;
  #drainedAtLook = 0;
  #expiryNotified = false;
  #errors = 0;
  #errorsSince = Number.NEGATIVE_INFINITY;

  constructor(socket: Socket, options: ConnectionOptions, environment: ConnectionEnvironment) {
    this.id = options.id;
    this.#identity = options.identity;
    this.address = options.address;
    this.echo = options.echo;
    this.presence = options.presence;
    this.#environment = environment;
    this.#socket = socket;
    this.#outbox = new Outbox(socket, {
      tick: environment.tick,
      counters: environment.counters,
      maxBytes: environment.maxOutboxBytes,
      onOverflow: () => this.#closeSlowConsumer(),
    });
    this.#lastReceived = environment.clock();
    this.#lastPing = this.#lastReceived;
    this.#lastLook = this.#lastReceived;
  }

  get identity(): Identity {
    return this.#identity;
  }

  get userId(): string {
    return this.#identity.userId;
  }

  get isOpen(): boolean {
    return this.#state === 'open';
  }

  /** Starts pings and the deadlines for silence and token expiry. */
  watch(): void {
    if (this.#state !== 'open') return; // closed while joining: the deadline for closing is already scheduled
    this.#environment.wheel.schedule(this, this.due(this.#environment.clock()));
  }

  replaceIdentity(identity: Identity): void {
    // Rate limits keep the key that the connection started with.
    this.#identity = { ...identity, limitedAs: this.#identity.limitedAs };
    this.#expiryNotified = false;
    this.watch();
  }

  push(bytes: Buffer): void {
    if (this.#state === 'open') this.#outbox.push(bytes);
  }

  get bufferedBytes(): number {
    return this.#outbox.bufferedBytes;
  }

  get drainedBytes(): number {
    return this.#outbox.drainedBytes;
  }

  pushPaced(bytes: Buffer): void {
    if (this.#state === 'open') this.#outbox.pushPaced(bytes);
  }

  whenDrained(callback: () => void): void {
    this.#outbox.whenDrained(callback);
  }

  closeSlowConsumer(): void {
    if (this.#state === 'open') this.#outbox.overflow();
  }

  send(type: ServerMessageType, event: string, payload: unknown, ref?: JsonText): void {
    if (this.#state !== 'open') return;
    this.channel?.audience.catchUp(this);
    const { encoder } = this.#environment;
    const message = encoder.message(type, event, payload, SYSTEM_USER);
    this.#outbox.push(encoder.encode(message, ref));
  }

  received(data: Buffer, isBinary: boolean): number {
    if (this.#state !== 'open') return 0;
    const { clock, counters, messageRate } = this.#environment;
    const now = clock();
    this.#lastReceived = now;
    counters.messagesReceived += 1;
    counters.bytesReceived += data.length;
    const wait = messageRate.take(this.identity.limitedAs, now);
    this.#handle(data, isBinary, wait);
    // Refusing costs as much as reading the message: a sender over its rate is read no faster than it may send.
    return wait;
  }

  /** Handles a message, or refuses it if its user has to wait, in ms. Every `ref` gets a reply. */
  #handle(data: Buffer, isBinary: boolean, wait: number): void {
    const decoded = decode(data, isBinary);
    if ('error' in decoded) {
      this.#fail(wait > 0 ? rateLimitExceeded(wait) : decoded.error, decoded.ref);
      return;
    }
    const { message } = decoded;
    try {
      if (wait > 0) throw rateLimitExceeded(wait);
      const answer = this.#environment.dispatch.handle(this, message, data.length);
      if (answer instanceof Promise) this.#answerLater(answer, message.ref);
      else if (message.ref !== undefined) this.send('reply', 'ok', answer, message.ref);
    } catch (error) {
      this.#fail(this.#protocolError(error), message.ref);
    }
  }

  /** Answers when the handler has finished, unless the connection has closed meanwhile. */
  #answerLater(answer: Promise<Record<string, unknown>>, ref: JsonText | undefined): void {
    answer.then(
      (payload) => {
        if (this.#state === 'open' && ref !== undefined) this.send('reply', 'ok', payload, ref);
      },
      (error: unknown) => {
        if (this.#state === 'open') this.#fail(this.#protocolError(error), ref);
      },
    );
  }

  /** Answers a ping. It counts as a message of its user, so that pings cannot bypass the rate limit. */
  pinged(body: Buffer): void {
    this.ponged();
    if (this.#state !== 'open') return;
    const wait = this.#environment.messageRate.take(this.identity.limitedAs, this.#lastReceived);
    if (wait > 0) this.#fail(rateLimitExceeded(wait), undefined);
    else this.push(pongFrame(body));
  }

  ponged(): void {
    this.#lastReceived = this.#environment.clock();
  }

  /** Answers with a close frame of this code and ends the socket. */
  closeRequested(code: number): void {
    if (this.#state === 'open') this.#end(closeFrame(code));
    this.#socket.end();
  }

  /** Leaves the channel and stops all timers; called once when the socket has closed for any reason. */
  socketClosed(): void {
    this.#leave();
    this.#state = 'closed';
    this.#environment.wheel.cancel(this);
  }

  channelClosed(error: ProtocolError): void {
    this.send('system', 'channel_closed', { reason: error.body.reason });
    this.#environment.counters.refused(error.code);
    this.close(ERRORS.CHANNEL_CLOSED.close, error.body.reason);
  }

  closeWith(error: ProtocolError): void {
    if (this.#state !== 'open') return;
    this.#environment.counters.refused(error.code);
    this.#environment.log.debug({ connection: this.id, code: error.code }, 'Connection closed');
    this.send('system', 'error', error.body);
    this.close(ERRORS[error.code].close ?? CLOSE.INTERNAL, error.code);
  }

  /** Writes pending messages and a close frame, and gives the peer `CLOSING_MS` to answer it. */
  close(code: number, reason = ''): void {
    if (this.#state === 'open') this.#end(closeFrame(code, reason));
  }

  /** Destroys the socket without a close frame. */
  destroy(): void {
    this.#socket.destroy();
  }

  due(now: number): number {
    if (this.#state !== 'open') {
      this.destroy();
      return NEVER;
    }
    const { pingIntervalMs, timeoutMs, tokenToleranceMs } = this.#environment;
    const validForMs = this.#tokenExpiresInMs();
    if (validForMs + tokenToleranceMs <= 0) {
      this.closeWith(
        new ProtocolError('AUTH_FAILED', {
          details: 'The token has expired',
          fields: { reason: 'expired' },
        }),
      );
      return now + CLOSING_MS;
    }
    this.#noticeReading(now);
    if (now - this.#lastReceived >= timeoutMs) {
      this.closeWith(new ProtocolError('STALE_CONNECTION'));
      return now + CLOSING_MS;
    }
    if (now - this.#lastPing >= pingIntervalMs) {
      this.#lastPing = now;
      this.push(PING);
    }
    const noticeInMs = this.#notifyExpiry(validForMs);
    // The next ping at the latest looks at the wall clock again, which may have been set meanwhile.
    return Math.min(
      this.#lastPing + pingIntervalMs,
      this.#lastReceived + timeoutMs,
      now + noticeInMs,
      now + validForMs + tokenToleranceMs,
    );
  }

  /** Counts reading as a sign of life: a pong is late while its ping waits behind a large message on a slow line. */
  #noticeReading(now: number): void {
    const { drainedBytes } = this.#outbox;
    const drained = drainedBytes - this.#drainedAtLook;
    if (drained > 0 && drained >= MIN_READING_RATE * (now - this.#lastLook)) this.#lastReceived = now;
    this.#lastLook = now;
    this.#drainedAtLook = drainedBytes;
  }

  /** Returns the ms until the token's `exp` by the wall clock, `NEVER` without one. */
  #tokenExpiresInMs(): number {
    const { expiresAt } = this.identity;
    return expiresAt === null ? NEVER : expiresAt - this.#environment.wallClock.epochMs();
  }

  /** Sends `token_expiring` when it is due. Returns the ms until it is due, `NEVER` if it was sent. */
  #notifyExpiry(validForMs: number): number {
    const { expiresAt } = this.identity;
    if (this.#expiryNotified || expiresAt === null) return NEVER;
    const noticeInMs = validForMs - LIMITS.tokenExpiryNoticeSeconds * 1000;
    if (noticeInMs > 0) return noticeInMs;
    this.#expiryNotified = true;
    this.send('system', 'token_expiring', { expires_at: new Date(expiresAt).toISOString() });
    return NEVER;
  }

  #protocolError(error: unknown): ProtocolError {
    if (error instanceof ProtocolError) return error;
    this.#environment.log.error({ err: error, connection: this.id }, 'Message handling failed');
    return new ProtocolError('INTERNAL', { cause: error });
  }

  /** Answers with an error. Closes the connection after more than `LIMITS.errorsPerMinute` errors. */
  #fail(error: ProtocolError, ref: JsonText | undefined): void {
    const { clock, counters } = this.#environment;
    const now = clock();
    if (now - this.#errorsSince >= 60_000) {
      this.#errorsSince = now;
      this.#errors = 0;
    }
    this.#errors += 1;
    counters.refused(error.code);
    if (ref !== undefined) this.send('reply', 'error', error.body, ref);
    if (this.#errors > LIMITS.errorsPerMinute) {
      const wait = this.#errorsSince + 60_000 - now;
      this.closeWith(rateLimitExceeded(wait, `More than ${LIMITS.errorsPerMinute} errors within a minute`));
    } else if (ref === undefined) this.send('system', 'error', error.body);
  }

  /**
   * The outbox is over its limit: sends an error and a close frame behind the bytes already in the socket.
   */
  #closeSlowConsumer(): void {
    if (this.#state !== 'open') return;
    const { counters, encoder, log } = this.#environment;
    counters.slowConsumers += 1;
    counters.refused('SLOW_CONSUMER');
    log.info({ connection: this.id }, 'Slow consumer closed');
    const error = new ProtocolError('SLOW_CONSUMER');
    const message = encoder.encode(encoder.message('system', 'error', error.body, SYSTEM_USER));
    this.#end(Buffer.concat([message, closeFrame(ERRORS.SLOW_CONSUMER.close, error.code)]));
  }

  #end(last: Buffer): void {
    this.channel?.audience.catchUp(this);
    this.#state = 'closing';
    this.#outbox.end(last);
    this.#leave();
    const { wheel, clock } = this.#environment;
    wheel.schedule(this, clock() + CLOSING_MS);
  }

  #leave(): void {
    if (this.channel === undefined) return;
    this.#environment.dispatch.closed(this);
    this.channel = undefined;
  }
}
