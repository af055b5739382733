import { setTimeout as delay } from 'node:timers/promises';
import type { Log } from '../../lib/log.js';
import type { Database } from '../connection/database.js';
import { findingsOf, POOLER_FINDING, WAL_BUDGET_BYTES } from '../preflight/preflight.js';
import { type PreflightNames, preflightFacts } from '../preflight/preflight-facts.js';
import { ensureSubscriberRole } from '../preflight/subscriber-role.js';
import { Acknowledgement } from '../source/acknowledgement.js';
import type { ChangeSink, ChangeSource, SourceState, SourceStats } from '../source/change-source.js';
import { ResumeWindow, type WindowLimits } from '../source/resume-window.js';
import { Refused, SourceRetry } from '../source/source-retry.js';
import { continuation, StreamStateStore } from '../source/stream-state.js';
import { type Lsn, parseLsn } from '../sql/lsn.js';
import { Heartbeat } from './heartbeat.js';
import { Liveness } from './liveness.js';
import { ReplicationConnection } from './replication-connection.js';
import { ensurePublication, ensureSlot } from './slot.js';
import { SlotWatch, type WalLimitAction } from './slot-watch.js';
import { WalReceiver } from './wal-receiver.js';

export interface ReplicationSourceOptions {
  /** A `postgres://` URL of PostgreSQL itself. */
  readonly url: string;
  /** For statements: the state of the stream, the publication, heartbeats. */
  readonly database: Database;
  readonly slot: string;
  readonly publication: string;
  /** The roles of REALTIME_DB_ROLES. */
  readonly dbRoles: readonly string[];
  /** REALTIME_ENABLE_RLS */
  readonly enableRls: boolean;
  readonly heartbeatMs: number;
  /** How much stays readable after it was handed out. */
  readonly window: WindowLimits;
  /** What is done when the slot keeps nearly as much of the log as it may. */
  readonly walLimitAction: WalLimitAction;
  /** How much it may keep where PostgreSQL sets no limit, in bytes. */
  readonly walBudgetBytes?: number;
  readonly maxReconnectDelayMs: number;
  readonly log: Log;
  readonly newEpoch: () => string;
  readonly applicationName?: string;
  readonly random?: () => number;
  /** A silence of so long is looked into, in ms. */
  readonly silenceMs?: number;
}

/** We ask for a sign of life every three seconds. */
const SILENCE_MS = 15_000;
/** How often a follower asks whether the slot is free, in ms; a third more or less by chance. */
const FOLLOW_MS = 1_000;
/** The first key of our advisory locks: "rtwl" in ASCII. The second is of the slot's name. */
const LOCK_SPACE = 0x7274776c;

/** Row changes as PostgreSQL's logical decoding tells them, through a slot that is ours alone. */
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
  #watch: SlotWatch | undefined;
  #isSlotUseless = false;

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
    this.#receiver?.handled(endLsn);
  }

  pause(): void {
    this.#isPaused = true;
    this.#connection?.pause();
  }

  resume(): void {
    this.#isPaused = false;
    this.#connection?.resume();
  }

  /** One connection, from its first statement to the end of its stream. */
  async #session(sink: ChangeSink, opened: () => void): Promise<void> {
    const {
      url,
      database,
      slot,
      publication,
      dbRoles,
      enableRls,
      newEpoch,
      log,
      applicationName = 'goforward-realtime',
    } = this.#options;
    const names: PreflightNames = { slot, publication, schema: database.schema, dbRoles, enableRls };
    await ensureSubscriberRole(database);
    this.#retry.requireNoErrors(findingsOf(await preflightFacts(database, names), names));
    await this.observe();
    const connection = await ReplicationConnection.open(url, `${applicationName} replication`);
    this.#connection = connection;
    if (this.#retry.signal.aborted) return;
    const [system] = await connection.query<{ systemid: string; timeline: number }>('IDENTIFY_SYSTEM');
    if (system === undefined) throw new Refused([POOLER_FINDING]);
    await this.#lead(connection);
    if (this.#retry.signal.aborted) return;
    const publicationOid = await ensurePublication(database, publication);
    const store = new StreamStateStore(database, database.schema, slot, newEpoch());
    const window = new ResumeWindow(await this.#windowLimits());
    const found = await ensureSlot(database, connection, slot, this.#isSlotUseless);
    this.#isSlotUseless = false;
    const facts = {
      systemId: system.systemid,
      timeline: Number(system.timeline),
      publication: publicationOid,
      ...found,
    };
    const { state, gap } = continuation(await store.read(), facts, newEpoch);
    await store.write(state);
    const receiver = new WalReceiver(sink, state.acknowledged, (content) => this.#heartbeat.arrived(content));
    this.#receiver = receiver;
    this.#acknowledgement = new Acknowledgement({ store, state, receiver, connection, window, sink, log });
    const begin = `START_REPLICATION SLOT "${slot}" LOGICAL ${this.#acknowledgement.position} (proto_version '1', publication_names '${publicationList(publication)}', messages 'true')`;
    const end = await this.observe();
    sink.opened({ epoch: state.epoch, memo: state.memo, end, ...(gap === undefined ? {} : { gap }) });
    opened();
    const verify = () => this.#requireUnmoved(connection, state.acknowledged);
    const { ended } = await connection.stream(begin, receiver, verify);
    if (this.#isPaused) connection.pause();
    this.#retry.succeeded();
    log.info(
      { slot, publication, epoch: state.epoch, ...(gap === undefined ? {} : { gap }) },
      'Row changes are streaming',
    );
    this.#acknowledgement.start();
    this.#heartbeat.start();
    const liveness = this.#livenessOf(connection);
    liveness.start();
    this.#watch = this.#watchOf(connection, window, { name: publication, oid: publicationOid });
    this.#watch.start();
    try {
      await ended;
    } catch (error) {
      if (isWedged(error))
        this.#giveSlotUp('it cannot be read past the time when its publication was not there');
      throw error;
    } finally {
      liveness.stop();
      this.#watch.stop();
      this.#heartbeat.stop();
    }
  }

  /**
   * Now that the slot is ours nobody can move it. Where somebody did after we had looked at it, PostgreSQL goes on from
   * there without a word: the next session finds that out, and tells.
   */
  async #requireUnmoved(connection: ReplicationConnection, acknowledged: Lsn): Promise<void> {
    const { database, slot } = this.#options;
    const [row] = await database.query<{ confirmed: string }>(
      'SELECT confirmed_flush_lsn::text AS confirmed FROM pg_replication_slots WHERE slot_name = $1 AND active_pid = $2',
      [slot, connection.processId],
    );
    if (row === undefined || parseLsn(row.confirmed) > acknowledged)
      throw new Error('the replication slot was moved on while it was taken');
  }

  async observe(): Promise<Lsn> {
    const [row] = await this.#options.database.query<{ end: string }>(
      'SELECT pg_current_wal_insert_lsn()::text AS end',
    );
    if (row === undefined) throw new Error('PostgreSQL answered nothing');
    this.#observedEnd = parseLsn(row.end);
    return this.#observedEnd;
  }

  /** Never more than a quarter of what PostgreSQL lets a slot keep: beyond that it would take the slot away. */
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
    window: ResumeWindow,
    publication: { readonly name: string; readonly oid: number },
  ): SlotWatch {
    const { database, slot, log, walBudgetBytes = WAL_BUDGET_BYTES, walLimitAction } = this.#options;
    return new SlotWatch({
      sql: database,
      slot,
      publication,
      window,
      budgetBytes: walBudgetBytes,
      action: walLimitAction,
      log,
      onOverflow: () => {
        this.#giveSlotUp('it keeps too much of the log (REALTIME_WAL_LIMIT_ACTION)');
        connection.close();
      },
      onPublicationGone: () => {
        log.error({ publication: publication.name }, 'The publication was dropped: changes are lost');
        connection.close();
      },
    });
  }

  /** The next connection makes the slot anew; what was not read yet is lost, and everybody is told. */
  #giveSlotUp(reason: string): void {
    this.#options.log.error(
      { slot: this.#options.slot, reason },
      'The replication slot is given up for a new one',
    );
    this.#isSlotUseless = true;
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
        log.warn(
          { slot },
          'Nothing comes from PostgreSQL, and it does not know of us any more: connecting anew',
        );
        connection.close();
      },
    });
  }

  /** Waits until the slot is ours. A waiting statement would hold a snapshot, so it is asked for again and again. */
  async #lead(connection: ReplicationConnection): Promise<void> {
    const { slot, log } = this.#options;
    const { signal } = this.#retry;
    const ask = `SELECT pg_try_advisory_lock(${LOCK_SPACE}, hashtext('${slot}')) AS leads`;
    while (!signal.aborted) {
      const [answer] = await connection.query<{ leads: boolean }>(ask);
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

/** Up to PostgreSQL 17 changes that were made while the publication was not there end every attempt to read past them. */
function isWedged(error: unknown): boolean {
  return (
    error instanceof Error && 'code' in error && error.code === '42704' && /publication/.test(error.message)
  );
}

/** The value of `publication_names`: a list of identifiers within a literal. */
function publicationList(name: string): string {
  return `"${name.replaceAll('"', '""')}"`.replaceAll("'", "''");
}
