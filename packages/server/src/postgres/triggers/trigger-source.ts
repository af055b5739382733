import { setTimeout as delay } from 'node:timers/promises';
import type { Log } from '../../lib/log.js';
import type { Database } from '../connection/database.js';
import type { SqlSession } from '../connection/sql-session.js';
import { OUTBOX_LOCKS } from '../migrations/migration-steps.js';
import { ensureSubscriberRole } from '../migrations/subscriber-role.js';
import { POOLER_FINDING, triggerFindingsOf } from '../preflight/preflight.js';
import { type PreflightNames, preflightFacts } from '../preflight/preflight-facts.js';
import { Acknowledgement } from '../source/acknowledgement.js';
import { AcknowledgementDelay, type WindowLimits } from '../source/acknowledgement-delay.js';
import type { ChangeSink, ChangeSource, SourceState, SourceStats } from '../source/change-source.js';
import { SourceRefusedError, SourceRetry } from '../source/source-retry.js';
import { type StreamState, StreamStateStore } from '../source/stream-state-store.js';
import { storeNotification } from './hand-made-notification.js';
import { Outbox, type OutboxBatch } from './outbox.js';
import { outboxContinuation } from './outbox-continuation.js';
import { OutboxDecoder } from './outbox-decoder.js';
import { PollInterval } from './poll-interval.js';

export interface TriggerSourceOptions {
  /** A `postgres://` URL. */
  readonly url: string;
  readonly database: Database;
  readonly names: () => PreflightNames;
  /** The resume window: how much stays readable after it was delivered. */
  readonly window: WindowLimits;
  readonly maxReconnectDelayMs: number;
  readonly log: Log;
  readonly newEpoch: () => string;
  /** Creates missing triggers of enabled tables; returns whether any was missing. */
  readonly prepareTables: () => Promise<boolean>;
  readonly random?: () => number;
}

/** The key of this stream's state in `streams`, instead of a slot's name. No slot can have this name. */
export const OUTBOX_STREAM = '(outbox)';
/** How often a follower tries to become the leader, in ms. */
const FOLLOW_MS = 1_000;
/**
 * A leader whose session is idle for this long counts as hung, in ms. A working one runs a query every five
 * seconds.
 */
const STALE_MS = 10_000;
/** How often a paused leader runs a query to stay alive, in ms. */
const KEEP_ALIVE_MS = 3_000;
/**
 * How long a reader that writers do not notify waits, in ms: twice as long after every poll without changes.
 */
const MIN_POLL_MS = 2;
const MAX_POLL_MS = 50;
/**
 * Delay after a batch, in ms: BATCH_DELAY_FACTOR times the duration of the batch, at most the maximum, and at
 * least the minimum since its start. Under load, few large batches cost writers less than many small ones.
 */
const MIN_BATCH_DELAY_MS = 10;
const MAX_BATCH_DELAY_MS = 100;
const BATCH_DELAY_FACTOR = 5;
/** How often the size of the outbox is measured, in ms. */
const SIZE_MS = 10_000;
/** How many notifications of hand-written triggers may be queued. */
const MAX_NOTIFICATIONS = 10_000;

/** Reads row changes from an outbox table that triggers write to, for databases without logical decoding. */
export class TriggerSource implements ChangeSource {
  readonly #options: TriggerSourceOptions;
  readonly #retry: SourceRetry;
  #decoder = new OutboxDecoder();
  #session: SqlSession | undefined;
  #acknowledgement: Acknowledgement | undefined;
  #running: Promise<void> | undefined;
  readonly #pollInterval: PollInterval;
  #isPaused = false;
  #resumeReading: (() => void) | undefined;
  /** Pending `observe` calls, settled by the next read of the outbox. */
  #observers: { readonly resolve: (end: bigint) => void; readonly reject: (error: unknown) => void }[] = [];
  #notifications: string[] = [];
  #observedEnd: bigint | undefined;
  #gapReason: string | undefined;
  readonly #progress = { walEnd: 0n, safe: 0n, transactions: 0, receivedBytes: 0 };
  #retainedBytes = 0;
  #lagSeconds = 0;

  constructor(options: TriggerSourceOptions) {
    this.#options = options;
    this.#pollInterval = new PollInterval(() => this.#lock('asleep'));
    this.#retry = new SourceRetry({ ...options, random: options.random ?? Math.random });
  }

  get state(): SourceState {
    return this.#retry.state;
  }

  get stats(): SourceStats {
    return {
      lagBytes: Number(this.#progress.walEnd - this.#progress.safe),
      lagSeconds: this.#lagSeconds,
      retainedBytes: this.#retainedBytes,
      xminAge: 0,
      receivedBytes: this.#progress.receivedBytes,
    };
  }

  get observedEnd(): bigint | undefined {
    return this.#observedEnd;
  }

  start(sink: ChangeSink): void {
    this.#running = this.#retry.run(
      sink,
      (opened) => this.#read(sink, opened),
      () => this.#cleanUp(),
    );
  }

  async stop(): Promise<void> {
    this.#retry.stop();
    this.#session?.close();
    this.#pollInterval.wake();
    this.#resumeReading?.();
    await this.#running;
  }

  acknowledge(endLsn: bigint): void {
    if (endLsn <= this.#progress.safe) return;
    this.#progress.safe = endLsn;
    this.#progress.transactions += 1;
  }

  pause(): void {
    this.#isPaused = true;
  }

  resume(): void {
    this.#isPaused = false;
    this.#resumeReading?.();
  }

  /** Returns the position that the stream will have when everything committed by now is read. */
  async observe(): Promise<bigint> {
    if (this.#retry.state.status !== 'streaming') {
      const { database } = this.#options;
      const [row] = await database.query<{ end: string | null }>(
        `SELECT max(end_position)::text AS end FROM ${database.schema}.outbox_batches`,
      );
      this.#observedEnd = BigInt(row?.end ?? 0);
      return this.#observedEnd;
    }
    return new Promise((resolve, reject) => {
      this.#observers.push({ resolve, reject });
      this.#pollInterval.wake();
    });
  }

  /** Runs one session: from its first statement to its end. */
  async #read(sink: ChangeSink, opened: () => void): Promise<void> {
    const { database, newEpoch, log, prepareTables } = this.#options;
    const names = this.#options.names();
    await ensureSubscriberRole(database);
    this.#retry.requireNoErrors(triggerFindingsOf(await preflightFacts(database, names), names));
    const session = await database.openReader('outbox');
    this.#session = session;
    session.listen(
      (payload) => this.#queueNotification(payload),
      () => this.#pollInterval.wake(),
    );
    await this.#waitForLeadership(session);
    if (this.#retry.signal.aborted) return;
    await session.query('LISTEN table_changes');
    await this.#pollInterval.begin(session);
    await database.query(
      `WITH gone AS (DELETE FROM ${database.schema}.change_source) INSERT INTO ${database.schema}.change_source VALUES ('trigger')`,
    );
    if (await prepareTables()) this.#gapReason ??= 'triggers of tables were missing';
    const store = new StreamStateStore(database, database.schema, OUTBOX_STREAM, newEpoch());
    const outbox = new Outbox(session, database.schema);
    const { state, gap } = await outboxContinuation(session, store, outbox, newEpoch, this.#gapReason);
    this.#gapReason = undefined;
    await store.write(state);
    const stored = await outbox.batches();
    // Transactions committed by now come before `end`: members that join from now on read their rows
    // themselves.
    const newest = stored.at(-1);
    if (newest !== undefined) {
      const taken = await outbox.take(newest.seen, newest.end, false);
      if (typeof taken !== 'string') stored.push(taken);
    }
    const last = stored.at(-1);
    if (last === undefined) throw new Error('the outbox was emptied');
    this.#progress.safe = state.acknowledged;
    this.#progress.walEnd = last.end;
    this.#observedEnd = last.end;
    sink.opened({
      epoch: state.epoch,
      memo: state.memo,
      end: last.end,
      ...(gap === undefined ? {} : { gap }),
    });
    opened();
    this.#retry.succeeded();
    log.info({ epoch: state.epoch, ...(gap === undefined ? {} : { gap }) }, 'Row changes are streaming');
    this.#acknowledgement = this.#acknowledgementOf(store, state, sink);
    this.#acknowledgement.start();
    for (const batch of stored) if (batch.end > state.acknowledged) await this.#deliver(sink, outbox, batch);
    await this.#follow(session, sink, outbox, last.seen);
  }

  /** Reads and delivers committed transactions batch by batch, until the session ends. */
  async #follow(session: SqlSession, sink: ChangeSink, outbox: Outbox, from: string): Promise<void> {
    let seen = from;
    let pollMs = MIN_POLL_MS;
    let sizeAt = 0;
    while (!this.#retry.signal.aborted && !session.isLost) {
      await this.#storeNotifications(session);
      const observers = this.#observers.splice(0);
      const began = performance.now();
      const taken = await outbox
        .take(seen, this.#progress.walEnd, observers.length > 0)
        .catch((error: unknown) => {
          for (const { reject } of observers) reject(error);
          throw error;
        });
      this.#lagSeconds = (performance.now() - began) / 1000;
      const isBatch = typeof taken !== 'string';
      seen = isBatch ? taken.seen : taken;
      if (isBatch) this.#progress.walEnd = taken.end;
      this.#observedEnd = this.#progress.walEnd;
      for (const { resolve } of observers) resolve(this.#progress.walEnd);
      if (isBatch) {
        pollMs = MIN_POLL_MS;
        await this.#pollInterval.unlock(session);
        await this.#deliver(sink, outbox, taken);
        const took = performance.now() - began;
        await delay(
          Math.min(MAX_BATCH_DELAY_MS, Math.max(MIN_BATCH_DELAY_MS - took, BATCH_DELAY_FACTOR * took)),
        );
      } else if (!(await this.#pollInterval.wait(session, pollMs))) {
        pollMs = Math.min(pollMs * 2, MAX_POLL_MS);
      }
      if (began - sizeAt > SIZE_MS) {
        sizeAt = began;
        await this.#measureSize(session);
      }
    }
  }

  /** Passes the transactions of a batch to the sink. */
  async #deliver(sink: ChangeSink, outbox: Outbox, batch: OutboxBatch): Promise<void> {
    let position: bigint | undefined;
    const commit = () => {
      // The relations of a batch are described as they are after it.
      if (position !== undefined) sink.commit(position + 1n, false);
    };
    for await (const rows of outbox.rows(batch)) {
      for (const row of rows) {
        const rowPosition = BigInt(row.position);
        if (rowPosition !== position) {
          commit();
          position = rowPosition;
          const xid = Number(BigInt(row.xid) & 0xffff_ffffn);
          sink.begin({ commitLsn: rowPosition, commitTime: batch.readAt, xid });
        }
        this.#progress.receivedBytes += (row.oldRow?.length ?? 0) + (row.newRow?.length ?? 0);
        if (!this.#decoder.deliver(sink, batch, row)) {
          this.#gapReason = 'the columns of a table changed more than once';
          throw new Error('cannot determine the columns of an outbox row');
        }
      }
      await this.#waitWhilePaused();
    }
    commit();
    if (position === undefined) this.acknowledge(batch.end);
  }

  /**
   * Waits while reading is paused. Queries regularly, since another server takes over from a session that
   * looks hung.
   */
  async #waitWhilePaused(): Promise<void> {
    while (this.#isPaused && !this.#retry.signal.aborted) {
      let timer: NodeJS.Timeout | undefined;
      await new Promise<void>((resolve) => {
        this.#resumeReading = resolve;
        timer = setTimeout(resolve, KEEP_ALIVE_MS);
      });
      clearTimeout(timer);
      await this.#session?.query('SELECT 1');
    }
  }

  #acknowledgementOf(store: StreamStateStore, state: StreamState, sink: ChangeSink): Acknowledgement {
    const { database, log, window } = this.#options;
    // Uses the pool, because the reading session may be within a transaction.
    const outbox = new Outbox(database, database.schema);
    return new Acknowledgement({
      store,
      state,
      receiver: this.#progress,
      connection: {
        acknowledge: (position) =>
          void outbox
            .prune(position)
            .catch((err: unknown) => log.debug({ err }, 'Pruning the outbox failed')),
        close: () => this.#session?.close(),
      },
      window: new AcknowledgementDelay(window),
      sink,
      log,
    });
  }

  /**
   * Waits until no other server reads the outbox. Leadership is an advisory lock of the session, so lock and
   * reading end together. Terminates the session of a leader that has hung for STALE_MS.
   */
  async #waitForLeadership(session: SqlSession): Promise<void> {
    const { log } = this.#options;
    const { signal } = this.#retry;
    let backendPid: number | undefined;
    while (!signal.aborted) {
      const [answer] = await session.query<{ leads: boolean; process: number }>(
        `SELECT pg_try_advisory_lock(${this.#lock('leader')}) AS leads, pg_backend_pid() AS process`,
      );
      backendPid ??= answer?.process;
      // A pooler in transaction mode gives each statement another backend, which holds none of our locks.
      if (answer?.process !== backendPid) throw new SourceRefusedError([POOLER_FINDING]);
      if (answer?.leads) return;
      if (this.#retry.state.status !== 'follower') {
        this.#retry.state = { status: 'follower' };
        log.info({}, 'Another server reads the outbox; this one waits to take over');
      }
      await session.query(
        `SELECT pg_terminate_backend(a.pid) FROM pg_locks l JOIN pg_stat_activity a ON a.pid = l.pid
         WHERE l.locktype = 'advisory' AND l.granted AND (l.classid, l.objid) = (${OUTBOX_LOCKS}::oid, (hashtext('${this.#options.database.schema}.leader')::int8 & 4294967295)::oid)
           AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
           AND a.usename = current_user AND a.state LIKE 'idle%' AND a.state_change < clock_timestamp() - interval '${STALE_MS} ms'`,
      );
      await this.observe();
      await delay(FOLLOW_MS, undefined, { signal }).catch(() => undefined);
    }
  }

  #lock(name: 'leader' | 'asleep'): string {
    return `${OUTBOX_LOCKS}, hashtext('${this.#options.database.schema}.${name}')`;
  }

  #queueNotification(payload: string): void {
    if (payload !== '') {
      if (this.#notifications.length < MAX_NOTIFICATIONS) this.#notifications.push(payload);
      else this.#options.log.debug({}, 'The notification queue is full; a notification was dropped');
    }
    this.#pollInterval.wake();
  }

  async #storeNotifications(session: SqlSession): Promise<void> {
    const { database, log } = this.#options;
    for (const payload of this.#notifications.splice(0)) {
      const isStored = await storeNotification(session, database.schema, payload);
      if (!isStored)
        log.debug({}, 'Ignored a notification on table_changes that no hand-written trigger can have sent');
    }
  }

  async #measureSize(session: SqlSession): Promise<void> {
    const [row] = await session.query<{ size: number }>(
      `SELECT pg_total_relation_size('${this.#options.database.schema}.outbox')::float8 AS size`,
    );
    this.#retainedBytes = row?.size ?? 0;
  }

  #cleanUp(): void {
    this.#session?.close();
    this.#session = undefined;
    this.#acknowledgement?.stop();
    this.#decoder = new OutboxDecoder();
    for (const { reject } of this.#observers.splice(0)) reject(new Error('the stream has ended'));
  }
}
