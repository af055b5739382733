import { setTimeout as delay } from 'node:timers/promises';
import type { Log } from '../../lib/log.js';
import type { Database } from '../connection/database.js';
import { ensureSubscriberRole } from '../migrations/subscriber-role.js';
import { findingsOf, POOLER_FINDING, WAL_BUDGET_BYTES } from '../preflight/preflight.js';
import { type PreflightNames, preflightFacts } from '../preflight/preflight-facts.js';
import { Acknowledgement } from '../source/acknowledgement.js';
import { AcknowledgementDelay, type WindowLimits } from '../source/acknowledgement-delay.js';
import type { ChangeSink, ChangeSource, SourceState, SourceStats } from '../source/change-source.js';
import { SourceRefusedError, SourceRetry } from '../source/source-retry.js';
import { continuation, StreamStateStore } from '../source/stream-state-store.js';
import { type Lsn, parseLsn } from '../sql/lsn.js';
import { Heartbeat } from './heartbeat.js';
import { Liveness } from './liveness.js';
import { ReplicationConnection } from './replication-connection.js';
import { ensurePublication, ensureSlot } from './slot.js';
import { SlotBudget, type WalLimitAction } from './slot-budget.js';
import { WalReceiver } from './wal-receiver.js';

export interface ReplicationSourceOptions {
  /** A `postgres://` URL of PostgreSQL itself. */
  readonly url: string;
  /** Runs the SQL statements: state of the stream, publication, heartbeats. */
  readonly database: Database;
  readonly slot: string;
  readonly publication: string;
  /** The roles of REALTIME_DB_ROLES. */
  readonly dbRoles: readonly string[];
  /** REALTIME_ENABLE_RLS */
  readonly enableRls: boolean;
  readonly heartbeatMs: number;
  /** The resume window: how much stays readable after it was delivered. */
  readonly window: WindowLimits;
  /** What to do when the slot has nearly used up its WAL budget: REALTIME_WAL_LIMIT_ACTION. */
  readonly walLimitAction: WalLimitAction;
  /** How much WAL the slot may retain where PostgreSQL sets no limit, in bytes. */
  readonly walBudgetBytes?: number;
  readonly maxReconnectDelayMs: number;
  readonly log: Log;
  readonly newEpoch: () => string;
  readonly applicationName?: string;
  readonly random?: () => number;
  /** After this much silence the connection is checked, in ms. */
  readonly silenceMs?: number;
}

/** Default of `silenceMs`. Status updates request a reply every three seconds, so silence is unusual. */
const SILENCE_MS = 15_000;
/** How often a follower checks whether the slot is free, in ms, randomly up to a third more or less. */
const FOLLOW_MS = 1_000;
/** The first key of the advisory lock: "rtwl" in ASCII. The second is the hash of the slot's name. */
const LOCK_SPACE = 0x7274776c;

/** A connection that leads, and the database cluster it is connected to. */
interface Connected {
  readonly connection: ReplicationConnection;
  readonly systemId: string;
  readonly timeline: number;
}

/**
 * Reads row changes from the WAL by logical decoding, through a replication slot that only this deployment
 * uses.
 */
export class ReplicationSource implements ChangeSource {
  readonly #options: ReplicationSourceOptions;
  readonly #random: () => number;
  readonly #retry: SourceRetry;
  #connection: ReplicationConnection | undefined;
  #receiver: WalReceiver | undefined;
  #acknowledgement: Acknowledgement | undefined;
  #heartbeat: Heartbeat;
  #running: Promise<void> | undefined;
  #isPaused = false;
  #observedEnd: Lsn | undefined;
  #watch: SlotBudget | undefined;
  #mustRecreateSlot = false;

  constructor(options: ReplicationSourceOptions) {
    this.#options = options;
    this.#random = options.random ?? Math.random;
    this.#retry = new SourceRetry({ ...options, random: this.#random });
    this.#heartbeat = new Heartbeat(options.database, options.heartbeatMs);
  }

  get state(): SourceState {
    return this.#retry.state;
  }

  get stats(): SourceStats {
    const receiver = this.#receiver;
    return {
      lagBytes: receiver === undefined ? 0 : Number(receiver.walEnd - receiver.safe),
      lagSeconds: this.#heartbeat.lagSeconds,
      retainedBytes: this.#watch?.retainedBytes ?? 0,
      xminAge: this.#watch?.xminAge ?? 0,
      receivedBytes: receiver?.receivedBytes ?? 0,
    };
  }

  get observedEnd(): Lsn | undefined {
    return this.#observedEnd;
  }

  start(sink: ChangeSink): void {
    this.#running = this.#retry.run(
      sink,
      (opened) => this.#session(sink, opened),
      () => {
        this.#connection?.close();
        this.#connection = undefined;
        this.#acknowledgement?.stop();
      },
    );
  }

  async stop(): Promise<void> {
    this.#retry.stop();
    this.#connection?.close();
    await this.#running;
  }

  acknowledge(endLsn: bigint): void {
    this.#receiver?.markDelivered(endLsn);
  }

  pause(): void {
    this.#isPaused = true;
    this.#connection?.pause();
  }

  resume(): void {
    this.#isPaused = false;
    this.#connection?.resume();
  }

  /**
   * Checks the preconditions, connects and waits for leadership; undefined when `stop` was called meanwhile.
   */
  async #connect(): Promise<Connected | undefined> {
    const {
      url,
      database,
      slot,
      publication,
      dbRoles,
      enableRls,
      applicationName = 'goforward-realtime',
    } = this.#options;
    const names: PreflightNames = { slot, publication, schema: database.schema, dbRoles, enableRls };
    await ensureSubscriberRole(database);
    this.#retry.requireNoErrors(findingsOf(await preflightFacts(database, names), names));
    await this.observe();
    const connection = await ReplicationConnection.open(url, `${applicationName} replication`);
    this.#connection = connection;
    if (this.#retry.signal.aborted) return undefined;
    const [system] = await connection.query<{ systemid: string; timeline: number }>('IDENTIFY_SYSTEM');
    if (system === undefined) throw new SourceRefusedError([POOLER_FINDING]);
    await this.#waitForLeadership(connection);
    return this.#retry.signal.aborted
      ? undefined
      : { connection, systemId: system.systemid, timeline: Number(system.timeline) };
  }

  /** Runs one session: from connecting to the end of the stream. */
  async #session(sink: ChangeSink, opened: () => void): Promise<void> {
    const { database, slot, publication, newEpoch, log } = this.#options;
    const connected = await this.#connect();
    if (connected === undefined) return;
    const { connection, systemId, timeline } = connected;
    const publicationOid = await ensurePublication(database, publication);
    const store = new StreamStateStore(database, database.schema, slot, newEpoch());
    const window = new AcknowledgementDelay(await this.#windowLimits());
    const found = await ensureSlot(database, connection, slot, this.#mustRecreateSlot);
    this.#mustRecreateSlot = false;
    const facts = { systemId, timeline, publication: publicationOid, ...found };
    const { state, gap } = continuation(await store.read(), facts, newEpoch);
    await store.write(state);
    const receiver = new WalReceiver(sink, state.acknowledged, (content) => this.#heartbeat.arrived(content));
    this.#receiver = receiver;
    this.#acknowledgement = new Acknowledgement({ store, state, receiver, connection, window, sink, log });
    const begin = `START_REPLICATION SLOT "${slot}" LOGICAL ${this.#acknowledgement.position} (proto_version '1', publication_names '${publicationList(publication)}', messages 'true')`;
    const end = await this.observe();
    sink.opened({ epoch: state.epoch, memo: state.memo, end, ...(gap === undefined ? {} : { gap }) });
    opened();
    const verify = () => this.#requireSlotUnmoved(connection, state.acknowledged);
    const { ended } = await connection.stream(begin, receiver, verify);
    if (this.#isPaused) connection.pause();
    this.#retry.succeeded();
    log.info(
      { slot, publication, epoch: state.epoch, ...(gap === undefined ? {} : { gap }) },
      'Row changes are streaming',
    );
    this.#acknowledgement.start();
    await this.#untilEnded(
      ended,
      connection,
      this.#watchOf(connection, window, { name: publication, oid: publicationOid }),
    );
  }

  /**
   * Runs the heartbeat, the liveness check and the slot watch until the stream ends. Throws the stream's
   * error.
   */
  async #untilEnded(
    ended: Promise<void>,
    connection: ReplicationConnection,
    watch: SlotBudget,
  ): Promise<void> {
    this.#heartbeat.start();
    const liveness = this.#livenessOf(connection);
    liveness.start();
    this.#watch = watch;
    watch.start();
    try {
      await ended;
    } catch (error) {
      if (isPublicationMissing(error))
        this.#abandonSlot('the slot cannot be read past changes made while its publication did not exist');
      throw error;
    } finally {
      liveness.stop();
      watch.stop();
      this.#heartbeat.stop();
    }
  }

  /**
   * Throws when another client advanced the slot between our reading its position and our acquiring it.
   * PostgreSQL would silently continue from the later position; the next session then finds the gap and
   * reports it. From now on the slot is held by `connection`, and nobody else can advance it.
   */
  async #requireSlotUnmoved(connection: ReplicationConnection, acknowledged: Lsn): Promise<void> {
    const { database, slot } = this.#options;
    const [row] = await database.query<{ confirmed: string }>(
      'SELECT confirmed_flush_lsn::text AS confirmed FROM pg_replication_slots WHERE slot_name = $1 AND active_pid = $2',
      [slot, connection.processId],
    );
    if (row === undefined || parseLsn(row.confirmed) > acknowledged)
      throw new Error('the replication slot was advanced while this server was acquiring it');
  }

  async observe(): Promise<Lsn> {
    const [row] = await this.#options.database.query<{ end: string }>(
      'SELECT pg_current_wal_insert_lsn()::text AS end',
    );
    if (row === undefined) throw new Error('PostgreSQL returned no WAL position');
    this.#observedEnd = parseLsn(row.end);
    return this.#observedEnd;
  }

  /**
   * Limits the window to a quarter of `max_slot_wal_keep_size`, beyond which PostgreSQL invalidates the slot.
   */
  async #windowLimits(): Promise<WindowLimits> {
    const { database, window } = this.#options;
    const [row] = await database.query<{ keep: number }>(
      `SELECT setting::float8 AS keep FROM pg_settings WHERE name = 'max_slot_wal_keep_size'`,
    );
    const megabytes = row?.keep ?? -1;
    return megabytes < 0
      ? window
      : { ...window, bytes: Math.min(window.bytes, Math.floor((megabytes * 1024 * 1024) / 4)) };
  }

  #watchOf(
    connection: ReplicationConnection,
    window: AcknowledgementDelay,
    publication: { readonly name: string; readonly oid: number },
  ): SlotBudget {
    const { database, slot, log, walBudgetBytes = WAL_BUDGET_BYTES, walLimitAction } = this.#options;
    return new SlotBudget({
      sql: database,
      slot,
      publication,
      window,
      budgetBytes: walBudgetBytes,
      action: walLimitAction,
      log,
      onOverflow: () => {
        this.#abandonSlot('the slot exceeds its WAL budget (REALTIME_WAL_LIMIT_ACTION)');
        connection.close();
      },
      onPublicationGone: () => {
        log.error(
          { publication: publication.name },
          'The publication was dropped or recreated; changes are lost',
        );
        connection.close();
      },
    });
  }

  /** Has the next session recreate the slot. Unread changes are lost, and every subscriber gets a `gap`. */
  #abandonSlot(reason: string): void {
    this.#options.log.error(
      { slot: this.#options.slot, reason },
      'The replication slot will be recreated; unread changes are lost',
    );
    this.#mustRecreateSlot = true;
  }

  #livenessOf(connection: ReplicationConnection): Liveness {
    const { database, slot, log, silenceMs = SILENCE_MS } = this.#options;
    return new Liveness({
      sql: database,
      slot,
      connection,
      isPaused: () => this.#isPaused,
      silenceMs,
      onDead: () => {
        log.warn({ slot }, 'The replication connection is dead; reconnecting');
        connection.close();
      },
    });
  }

  /**
   * Waits until this server holds the advisory lock of the slot. The lock is on the replication connection,
   * so lock and slot are released together. It polls, because a waiting statement would hold a snapshot.
   */
  async #waitForLeadership(connection: ReplicationConnection): Promise<void> {
    const { slot, log } = this.#options;
    const { signal } = this.#retry;
    const tryLock = `SELECT pg_try_advisory_lock(${LOCK_SPACE}, hashtext('${slot}')) AS leads`;
    while (!signal.aborted) {
      const [answer] = await connection.query<{ leads: boolean }>(tryLock);
      if (answer?.leads) return;
      if (this.#retry.state.status !== 'follower') {
        this.#retry.state = { status: 'follower' };
        log.info({ slot }, 'Another server reads the replication slot; this one waits to take over');
      }
      await this.observe();
      const pause = FOLLOW_MS * (2 / 3 + (2 / 3) * this.#random());
      await delay(pause, undefined, { signal }).catch(() => undefined);
    }
  }
}

/**
 * Up to PostgreSQL 17, changes made while the publication did not exist make every attempt to read past them
 * fail.
 */
function isPublicationMissing(error: unknown): boolean {
  return (
    error instanceof Error && 'code' in error && error.code === '42704' && /publication/.test(error.message)
  );
}

/** Returns the value of `publication_names`: a list of identifiers inside a string literal. */
function publicationList(name: string): string {
  return `"${name.replaceAll('"', '""')}"`.replaceAll("'", "''");
}
